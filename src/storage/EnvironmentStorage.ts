/**
 * API keys from environment variables, as credentials.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import { AdenConfigError } from "../errors/ConfigError.ts"
import { CredentialStorageError, invalidIdRemedy, StorageIoFailed, StorageRefused } from "../errors/StorageError.ts"
import { Credential } from "../model/Credential.ts"
import { CredentialState, isExpected, stateAfterUpdate } from "../model/CredentialState.ts"
import { makeKeyedLock } from "../util/KeyedLock.ts"
import { cleanText } from "../util/sanitize.ts"
import { CredentialStorage } from "./CredentialStorage.ts"
import { asStorageError, checkCredentialId } from "./operation.ts"

/**
 * A {@link CredentialStorage} over environment variables, each an `api_key` credential whose key `api_key` is the variable's
 * value. Values are read through Effect's `Config` at each load, and never cached. An empty variable counts as not set.
 *
 * It is read-only: `save`, and `delete` of a variable that is set, fail with `CredentialStorageError`, reason `StorageRefused`.
 * State records are kept in memory for the lifetime of the layer.
 *
 * @since 0.1.0
 * @category storages
 */
export class EnvironmentStorage {
  /**
   * A storage over the `ConfigProvider` in place where the layer is built.
   *
   * - `variables`: the variable to read, by id. An id that is not in it is read from a default variable, `hubspot` from
   *   `HUBSPOT_API_KEY`: the id in capitals, with `_` for every character other than A–Z, 0–9 and `_`, and a `_` in front when it
   *   begins with a digit. By this rule alone, `ADEN_API_KEY`, the agent's own key, is never a credential.
   *
   * `list` answers the ids of `variables` that are set, because the environment does not tell which other variables are
   * credentials. Fails with `AdenConfigError` when an entry of `variables` cannot be the name of a variable.
   *
   * @example
   * ```ts
   * import { EnvironmentStorage } from "aden-credentials"
   *
   * // `github` from GITHUB_TOKEN, `brave_search` from BRAVE_SEARCH_API_KEY
   * const Storage = EnvironmentStorage.layer({ variables: { github: "GITHUB_TOKEN" } })
   * ```
   */
  static readonly layer = (options: {
    readonly variables?: Readonly<Record<string, string>> | undefined
  } = {}): Layer.Layer<CredentialStorage, AdenConfigError> =>
    Layer.effect(CredentialStorage, make(new Map(Object.entries(options.variables ?? {}))))
}

// internal

const variableName = /^[A-Za-z_][A-Za-z0-9_]*$/

/** The agent's own key for Aden, which code that reads credentials must not get. */
const agentKey = "ADEN_API_KEY"

/** The variable of an id that is not in `variables`. Several ids can share one. */
const defaultVariable = (id: string): string => {
  const name = id.replace(/[^A-Za-z0-9_]/gu, "_").toUpperCase()
  return `${/^[0-9]/.test(name) ? "_" : ""}${name}_API_KEY`
}

const checkVariable = (id: string, variable: string): Effect.Effect<void, AdenConfigError> => {
  const refuse = (detail: string, remedy: string) =>
    Effect.fail(new AdenConfigError({ setting: "variables", detail, remedy }))
  if (!variableName.test(variable)) {
    return refuse(
      `names ${JSON.stringify(cleanText(variable))} for ${JSON.stringify(cleanText(id))}, which cannot be a variable`,
      "Use letters of A–Z, digits and _, and no digit at the beginning."
    )
  }
  return Effect.mapError(checkCredentialId(id), ({ detail }) =>
    new AdenConfigError({
      setting: "variables",
      detail: `names ${variable} for an invalid id: ${detail}`,
      remedy: invalidIdRemedy
    }))
}

const make = Effect.fnUntraced(function*(variables: ReadonlyMap<string, string>) {
  yield* Effect.forEach(variables, ([id, variable]) => checkVariable(id, variable), { discard: true })
  const settings = yield* ConfigProvider.ConfigProvider
  const states = new Map<string, CredentialState>()
  const lock = makeKeyedLock()

  const variableOf = (id: string): string => variables.get(id) ?? defaultVariable(id)

  const valueOf = Effect.fnUntraced(function*(id: string) {
    yield* checkCredentialId(id)
    const variable = variableOf(id)
    if (variable === agentKey && !variables.has(id)) return Option.none()
    const value = yield* Config.option(Config.Redacted(variable)).pipe(
      Effect.provideService(ConfigProvider.ConfigProvider, settings),
      // the original error could hold the value
      Effect.mapError(() => new StorageIoFailed({ location: variable, detail: "the setting cannot be read" }))
    )
    return Option.filter(value, (value) => Redacted.value(value) !== "")
  })

  const credentialOf = (id: string) =>
    Effect.map(valueOf(id), Option.map((apiKey) => Credential.fromApiKey({ id, apiKey })))

  const isSet = (id: string) => Effect.map(valueOf(id), Option.isSome)

  const stateOf = (id: string): CredentialState => states.get(id) ?? CredentialState.initial

  const refusal = (operation: string, id: string) =>
    new CredentialStorageError({
      id,
      operation,
      reason: new StorageRefused({
        detail: `environment variables are read-only here; change ${variableOf(id)} where the program is started, ` +
          "or put a writable storage in front of this one (FallbackStorage)"
      })
    })

  const refuseSave = (id: string) =>
    Effect.andThen(asStorageError("save", id)(checkCredentialId(id)), Effect.fail(refusal("save", id)))

  return CredentialStorage.of({
    read: Effect.fn("EnvironmentStorage.read")((id) =>
      Effect.map(credentialOf(id), (credential) => ({ credential, state: stateOf(id) })).pipe(
        asStorageError("read", id)
      )
    ),
    load: Effect.fn("EnvironmentStorage.load")((id) => asStorageError("load", id)(credentialOf(id))),
    save: Effect.fn("EnvironmentStorage.save")(({ id }) => refuseSave(id)),
    saveMany: Effect.fn("EnvironmentStorage.saveMany")(function*(many) {
      const failures = new Map<string, CredentialStorageError>()
      for (const { id } of many) failures.set(id, yield* Effect.flip(refuseSave(id)))
      return failures
    }),
    delete: Effect.fn("EnvironmentStorage.delete")(
      function*(id) {
        if (yield* isSet(id)) return yield* refusal("delete", id)
        states.delete(id)
        return false
      },
      (effect, id) => asStorageError("delete", id)(effect)
    ),
    list: Effect.filter(Array.from(variables.keys()), isSet).pipe(
      asStorageError("list"),
      Effect.withSpan("EnvironmentStorage.list")
    ),
    exists: Effect.fn("EnvironmentStorage.exists")((id) => asStorageError("exists", id)(isSet(id))),
    loadState: Effect.fn("EnvironmentStorage.loadState")((id) =>
      asStorageError("loadState", id)(Effect.map(checkCredentialId(id), () => stateOf(id)))
    ),
    saveState: Effect.fn("EnvironmentStorage.saveState")((id, state, options) =>
      Effect.map(checkCredentialId(id), () => {
        if (!isExpected(CredentialState.initial, options)) return false
        states.set(id, stateAfterUpdate(state, CredentialState.initial))
        return true
      }).pipe(asStorageError("saveState", id))
    ),
    // nothing can be saved or deleted here
    changes: Stream.empty,
    withLock: (id, effect) => Effect.andThen(asStorageError("withLock", id)(checkCredentialId(id)), lock(id)(effect))
  })
})
