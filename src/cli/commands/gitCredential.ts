import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Stdio from "effect/Stdio"
import * as Stream from "effect/Stream"
import { CredentialKeyNotFound } from "../../errors/CredentialError.ts"
import type { Credential } from "../../model/Credential.ts"
import { CredentialStore } from "../../store/CredentialStore.ts"
import { AwaitRefresh } from "../../store/RefreshPolicy.ts"
import { GitProtocolError, TokenNotForGit } from "../CommandFailure.ts"
import { CommandOutput } from "../CommandOutput.ts"
import { reportingFailures } from "../failureReport.ts"
import { storeWithAden } from "../layers.ts"

/** Whose tokens are for which host. */
const knownHosts: ReadonlyArray<readonly [host: string, ref: string]> = [
  ["github.com", "github"],
  ["gist.github.com", "github"],
  ["gitlab.com", "gitlab"]
]

/** The user name under which each takes a token as the password; most do not look at it. */
const userName = ({ integrationType }: Credential): string => integrationType === "gitlab" ? "oauth2" : "x-access-token"

/** What git asks about, each line `name=value`. */
type Question = ReadonlyMap<string, string>

/** Git writes a handful of short lines. */
const maximumLength = 64 * 1024

const question = Effect.gen(function*() {
  const stdio = yield* Stdio.Stdio
  const text = yield* stdio.stdin.pipe(
    Stream.decodeText,
    Stream.mapError(() => new GitProtocolError({ detail: "it cannot be read" })),
    Stream.runFoldEffect(() => "", (read, more) =>
      read.length + more.length > maximumLength
        ? Effect.fail(new GitProtocolError({ detail: "it is too long" }))
        : Effect.succeed(read + more))
  )
  // git forbids it in what it asks about: a helper that reads it as the end of a line would answer about another host
  if (text.includes("\r")) return yield* new GitProtocolError({ detail: "it holds a carriage return" })
  const lines = text.split("\n")
  const end = lines.indexOf("")
  const fields = new Map<string, string>()
  for (const line of end < 0 ? lines : lines.slice(0, end)) {
    const at = line.indexOf("=")
    if (at < 1) return yield* new GitProtocolError({ detail: "a line is not name=value" })
    fields.set(line.slice(0, at), line.slice(at + 1))
  }
  return fields
})

/** The ref whose token is for the host in question. A token travels encrypted, and to no port that was not named. */
const refFor = (asked: Question, refs: ReadonlyMap<string, string>): string | undefined =>
  asked.get("protocol") === "https" ? refs.get(asked.get("host")?.toLowerCase() ?? "") : undefined

const tokenOf = (credential: Credential, ref: string) =>
  credential.defaultKey === undefined
    ? Effect.fail(new CredentialKeyNotFound({ ref }))
    : Effect.succeed(credential.defaultKey)

/** A line break would begin a line of the token's own, such as another host. */
const notInLine = /[\p{Cc}\p{Zl}\p{Zp}]/u

const get = Effect.fnUntraced(function*(ref: string) {
  const store = yield* CredentialStore
  const { stdout } = yield* CommandOutput
  const credential = yield* store.get(ref)
  const { expiresAt, value } = yield* tokenOf(credential, ref)
  if (notInLine.test(Redacted.value(value))) return yield* new TokenNotForGit({ ref })
  yield* stdout.write(
    [
      `username=${userName(credential)}`,
      `password=${Redacted.value(value)}`,
      ...(expiresAt === undefined
        ? []
        : [`password_expiry_utc=${Math.floor(DateTime.toEpochMillis(expiresAt) / 1000)}`]),
      ""
    ].join("\n")
  )
}, Effect.provideService(AwaitRefresh, true))

/** The host refused a token: the next one is another, unless it was renewed already. */
const erase = Effect.fnUntraced(function*(ref: string, refused: string | undefined) {
  const store = yield* CredentialStore
  const { value } = yield* tokenOf(yield* store.get(ref), ref)
  if (refused === undefined || refused === Redacted.value(value)) yield* store.refresh(ref)
}, Effect.provideService(AwaitRefresh, true))

const answerGit = Effect.fnUntraced(function*(operation: string, refs: ReadonlyMap<string, string>) {
  // "store" is for helpers that keep what they are given; an operation of a later git is none of ours
  if (operation !== "get" && operation !== "erase") return
  const asked = yield* question
  const ref = refFor(asked, refs)
  // nothing said means: ask the next helper
  if (ref === undefined) return
  if (operation === "get") yield* Effect.provide(get(ref), storeWithAden("makes"))
  else yield* Effect.provide(erase(ref, asked.get("password")), storeWithAden("makes"))
})

const hostPattern = /^[a-z0-9.-]+(?::[0-9]{1,5})?$|^\[[0-9a-f:.]+\](?::[0-9]{1,5})?$/i

const parse = (text: string): readonly [host: string, ref: string] => {
  const at = text.indexOf("=")
  return [text.slice(0, Math.max(at, 0)).toLowerCase(), text.slice(at + 1)]
}

const isHostAndRef = (text: string): boolean => {
  const [host, ref] = parse(text)
  return hostPattern.test(host) && ref !== ""
}

export const gitCredentialCommand = Command.make(
  "git-credential",
  {
    ref: Flag.String("ref").pipe(
      Flag.filter(isHostAndRef, () => "Expected host=<ref>, such as git.example.com=gitlab:work"),
      Flag.withMetavar("host=<ref>"),
      Flag.withDescription("Whose token is for a host, besides github.com=github and gitlab.com=gitlab"),
      Flag.atLeast(0)
    ),
    operation: Argument.String("operation").pipe(Argument.withDescription("get, store or erase: git adds it"))
  },
  Effect.fnUntraced(
    function*({ operation, ref }) {
      yield* answerGit(operation, new Map([...knownHosts, ...ref.map(parse)]))
    },
    reportingFailures
  )
).pipe(
  Command.withDescription("Answer git as a credential helper, with tokens for GitHub and GitLab over https"),
  Command.withExamples([
    {
      command: "git config --global credential.helper '!aden-creds git-credential'",
      description: "Have git ask it for every host it knows"
    },
    {
      command: "git config --global credential.helper '!aden-creds git-credential --ref git.example.com=gitlab:work'",
      description: "A GitLab of one's own, and which account"
    }
  ])
)
