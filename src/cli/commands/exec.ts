import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { AdenConfigError } from "../../errors/ConfigError.ts"
import { CredentialStore } from "../../store/CredentialStore.ts"
import { AwaitRefresh } from "../../store/RefreshPolicy.ts"
import { printable } from "../../util/sanitize.ts"
import { isKnownToken } from "../../util/secretWords.ts"
import { inheritedEnvironment, requireCommand, runInPlace } from "../childProcess.ts"
import { endWith } from "../ExitStatus.ts"
import { reportingFailures } from "../failureReport.ts"
import { storeWithAden } from "../layers.ts"

/** Variables that decide what else programs load and run: a token does not belong in them. */
const steering = new RegExp(
  "^(?:" + [
    "PATH|PATHEXT|COMSPEC|SHELL|ENV|IFS|CDPATH|SHELLOPTS|BASHOPTS|BASH_ENV|BASH_FUNC_.*|PROMPT_COMMAND|PS4",
    "LD_.*|DYLD_.*|LIBPATH|SHLIB_PATH",
    "NODE_OPTIONS|NODE_PATH|NODE_EXTRA_CA_CERTS|NODE_REPL_EXTERNAL_MODULE|NPM_CONFIG_.*",
    "PYTHON.*|PERL5.*|PERLLIB|RUBYOPT|RUBYLIB|LUA_INIT.*|PHPRC|PHP_INI_SCAN_DIR",
    "JAVA_TOOL_OPTIONS|_JAVA_OPTIONS|JDK_JAVA_OPTIONS|CLASSPATH|DOTNET_STARTUP_HOOKS",
    "GIT_(?:SSH|SSH_COMMAND|ASKPASS|EDITOR|PAGER|EXEC_PATH|EXTERNAL_DIFF|PROXY_COMMAND|CONFIG.*|DIR|TEMPLATE_DIR)",
    "SSH_ASKPASS|EDITOR|VISUAL|PAGER|BROWSER|HOME|USERPROFILE|TMPDIR|TEMP|TMP|OPENSSL_CONF|OPENSSL_MODULES",
    "HIVE_CREDENTIAL_KEY.*|ADEN_.*"
  ].join("|") + ")$",
  "i"
)

/** What the command does not inherit: it gets tokens, not the keys to all tokens, nor the passwords of where they are stored. */
const withheld = /^(?:ADEN_API_KEY.*|(?:HIVE_CREDENTIAL_KEY|REDIS_URL|DATABASE_URL)(?:_FILE|_COMMAND)?)$/i

const parse = (text: string): { readonly name: string; readonly ref: string } => {
  const at = text.indexOf("=")
  return at < 0 ? { name: text, ref: "" } : { name: text.slice(0, at), ref: text.slice(at + 1) }
}

/** What is wrong with the values of `--env`. Messages do not repeat them: one may be a token in the place of a ref. */
const faultOf = (
  variables: ReadonlyArray<{ readonly name: string; readonly ref: string }>
): AdenConfigError | undefined => {
  const fault = (detail: string, remedy: string) => new AdenConfigError({ setting: "--env", detail, remedy })
  const names = new Set<string>()
  for (const { name, ref } of variables) {
    if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name) || ref === "") {
      return fault("is not NAME=<ref>", "Give it as --env GITHUB_TOKEN=github, once for each variable.")
    }
    if (steering.test(name)) {
      return fault(`names ${name}, which changes how programs run`, "Choose another name for the token.")
    }
    // it would be asked for at Aden
    if (isKnownToken(printable(ref))) {
      return fault(
        "has a token in the place of a ref",
        "Name the credential, as in --env GITHUB_TOKEN=github, and renew that token."
      )
    }
    if (names.has(name)) return fault(`names ${name} twice`, "Give each variable once.")
    names.add(name)
  }
  return undefined
}

/** The tokens by the names of their variables, refreshed if they are due: the command keeps them for as long as it runs. */
const tokensOf = Effect.fnUntraced(
  function*(variables: ReadonlyArray<{ readonly name: string; readonly ref: string }>) {
    const store = yield* CredentialStore
    return yield* Effect.forEach(
      variables,
      ({ name, ref }) => Effect.map(store.token(ref), (token) => [name, Redacted.value(token)] as const),
      { concurrency: "unbounded" }
    )
  },
  Effect.provideService(AwaitRefresh, true)
)

export const execCommand = Command.make(
  "exec",
  {
    env: Flag.String("env").pipe(
      Flag.withMetavar("NAME=<ref>"),
      Flag.withDescription("A variable, and the ref whose token to put in it; may be given several times"),
      Flag.atLeast(1)
    ),
    command: Argument.String("command").pipe(
      Argument.withDescription("The command to run, and its arguments"),
      Argument.variadic({ min: 1 })
    )
  },
  Effect.fnUntraced(
    function*({ command: [command = "", ...args], env }) {
      const variables = env.map(parse)
      const fault = faultOf(variables)
      if (fault !== undefined) return yield* fault
      const whole = yield* inheritedEnvironment
      yield* requireCommand(command, whole)
      const tokens = yield* Effect.provide(tokensOf(variables), storeWithAden("makes"))
      const inherited = Object.entries(whole).filter(([name]) => !withheld.test(name))
      const environment = Object.fromEntries([...inherited, ...tokens])
      yield* runInPlace({ command, args, environment, onEnd: endWith })
    },
    reportingFailures
  )
).pipe(
  Command.withDescription("Run a command with tokens in its environment"),
  Command.withExamples([
    {
      command: "aden-creds exec --env GITHUB_TOKEN=github -- gh repo list",
      description: "A command that reads its token from a variable"
    },
    {
      command: "aden-creds exec --env HUBSPOT=hubspot --env SLACK=slack:team -- node agent.js --verbose",
      description: "Everything after -- belongs to the command"
    }
  ])
)
