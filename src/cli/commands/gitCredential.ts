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
import { AwaitRefresh, ReplacedToken } from "../../store/RefreshPolicy.ts"
import { GitProtocolError, TokenNotForGit } from "../CommandFailure.ts"
import { CommandOutput } from "../CommandOutput.ts"
import { reportingFailures } from "../failureReport.ts"
import { storeWithAden } from "../layers.ts"

/** Which host gets the token of which ref. */
const knownHosts: ReadonlyArray<readonly [host: string, ref: string]> = [
  ["github.com", "github"],
  ["gist.github.com", "github"],
  ["gitlab.com", "gitlab"]
]

/** The user name with which a host takes a token as the password; most hosts ignore it. */
const userName = ({ integrationType }: Credential): string => integrationType === "gitlab" ? "oauth2" : "x-access-token"

/** The fields of a request by git, each a line `name=value`. */
type GitRequest = ReadonlyMap<string, string>

/** Git writes a few short lines. */
const maximumLength = 64 * 1024

const readRequest = Effect.gen(function*() {
  const stdio = yield* Stdio.Stdio
  const text = yield* stdio.stdin.pipe(
    Stream.decodeText,
    Stream.mapError(() => new GitProtocolError({ detail: "it cannot be read" })),
    Stream.runFoldEffect(() => "", (read, more) =>
      read.length + more.length > maximumLength
        ? Effect.fail(new GitProtocolError({ detail: "it is too long" }))
        : Effect.succeed(read + more))
  )
  // git forbids it: a helper that takes it for the end of a line would answer for another host
  if (text.includes("\r")) return yield* new GitProtocolError({ detail: "it contains a carriage return" })
  const lines = text.split("\n")
  const end = lines.indexOf("")
  const fields = new Map<string, string>()
  for (const line of end < 0 ? lines : lines.slice(0, end)) {
    const at = line.indexOf("=")
    if (at < 1) return yield* new GitProtocolError({ detail: "a line is not name=value" })
    const name = line.slice(0, at)
    // which of two hosts is meant? only lists, whose names end in [], have several values
    if (fields.has(name) && !name.endsWith("[]")) {
      return yield* new GitProtocolError({ detail: "a field stands there twice" })
    }
    fields.set(name, line.slice(at + 1))
  }
  // git takes it apart before it asks a helper; beside host it would name a second one
  if (fields.has("url")) return yield* new GitProtocolError({ detail: "it has a URL in place of its parts" })
  return fields
})

/** The ref whose token the host gets. A token is sent over https only, and to another port only if that port was named. */
const refFor = (request: GitRequest, refs: ReadonlyMap<string, string>): string | undefined =>
  request.get("protocol") === "https" ? refs.get(request.get("host")?.toLowerCase() ?? "") : undefined

const tokenOf = (credential: Credential, ref: string) =>
  credential.defaultKey === undefined
    ? Effect.fail(new CredentialKeyNotFound({ ref }))
    : Effect.succeed(credential.defaultKey)

/** A line break in a token would begin another field, such as another host. */
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

/** The host refused a token: it is refreshed, unless it was replaced already. */
const erase = Effect.fnUntraced(function*(ref: string, refused: string | undefined) {
  const store = yield* CredentialStore
  const { value } = yield* tokenOf(yield* store.get(ref), ref)
  if (refused !== undefined && refused !== Redacted.value(value)) return
  yield* Effect.provideService(store.refresh(ref), ReplacedToken, value)
}, Effect.provideService(AwaitRefresh, true))

const answerGit = Effect.fnUntraced(function*(operation: string, refs: ReadonlyMap<string, string>) {
  // "store" is for helpers that keep credentials; operations that later versions of git add are ignored
  if (operation !== "get" && operation !== "erase") return
  const request = yield* readRequest
  const ref = refFor(request, refs)
  // when nothing is printed, git asks the next helper
  if (ref === undefined) return
  if (operation === "get") yield* Effect.provide(get(ref), storeWithAden("makes"))
  else yield* Effect.provide(erase(ref, request.get("password")), storeWithAden("makes"))
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
      Flag.withDescription(
        "A host and the ref whose token it gets; github.com, gist.github.com and gitlab.com are known"
      ),
      Flag.atLeast(0)
    ),
    operation: Argument.String("operation").pipe(Argument.withDescription("get, store or erase; git adds it"))
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
      description: "Have git ask it for github.com, gist.github.com and gitlab.com"
    },
    {
      command: "git config --global credential.helper '!aden-creds git-credential --ref git.example.com=gitlab:work'",
      description: "A self-hosted GitLab, and which account to use"
    }
  ])
)
