/**
 * API keys that the environment holds, as credentials.
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
import { AdenConfigError, CredentialStorageError, StorageIoFailed, StorageRefused } from "../errors/CredentialError.ts"
import { Credential } from "../model/Credential.ts"
import { CredentialState, stateWithoutSave } from "../model/CredentialState.ts"
import { makeKeyedLock } from "../util/KeyedLock.ts"
import { cleanText } from "../util/sanitize.ts"
import { CredentialStorage } from "./CredentialStorage.ts"
import { checkCredentialId, inOperation } from "./operation.ts"

/**
 * A {@link CredentialStorage} over environment variables, each an `api_key` credential whose key `api_key` is the variable's
 * value. Values are read through Effect's `Config` when a credential is loaded, and are kept nowhere. An empty variable counts
 * as not set.
 *
 * It is read-only: `save` fails with `CredentialStorageError`, reason `StorageRefused`, and so does `delete` of what is set. State
 * records are kept in memory, for as long as the layer lives.
 *
 * @since 0.1.0
 * @category storages
 */
export class EnvironmentStorage {
  /**
   * A storage over the settings (`ConfigProvider`) of where the layer is built.
   *
   * - `variables`: the variable of an id, by id. The id `hubspot`, where it is not among them, is read from
   *   `HUBSPOT_API_KEY`: the id in capitals, in which what is no letter of A–Z, no digit and no `_` becomes `_`. An id that
   *   begins with a digit gets a `_` before it. `ADEN_API_KEY`, the agent's own key, is no credential by this rule.
   *
   * `list` answers those of `variables` that are set: which others are meant as credentials, the environment does not tell.
   * Fails with `AdenConfigError` when one of `variables` could not be the name of a variable.
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

/** What Aden knows the agent by: whoever may read credentials does not need it. */
const agentKey = "ADEN_API_KEY"

/** The variable of an id that was given none. Several ids can share one. */
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
      detail: `names ${variable} for what is no id: ${detail}`,
      remedy: "Use a non-empty id of well-formed text."
    }))
}

const make = Effect.fnUntraced(function*(variables: ReadonlyMap<string, string>) {
  yield* Effect.forEach(variables, ([id, variable]) => checkVariable(id, variable), { discard: true })
  const settings = yield* ConfigProvider.ConfigProvider
  const states = new Map<string, CredentialState>()
  const lock = makeKeyedLock()

  const variableOf = (id: string): string => variables.get(id) ?? defaultVariable(id)

  const read = Effect.fnUntraced(function*(id: string) {
    yield* checkCredentialId(id)
    const variable = variableOf(id)
    if (variable === agentKey && !variables.has(id)) return Option.none()
    const value = yield* Config.option(Config.Redacted(variable)).pipe(
      Effect.provideService(ConfigProvider.ConfigProvider, settings),
      // what the error says could hold the value
      Effect.mapError(() => new StorageIoFailed({ location: variable, detail: "the setting cannot be read" }))
    )
    return Option.filter(value, (value) => Redacted.value(value) !== "")
  })

  const isSet = (id: string) => Effect.map(read(id), Option.isSome)

  const refusal = (operation: string, id: string) =>
    new CredentialStorageError({
      id,
      operation,
      reason: new StorageRefused({
        detail: `environment variables are read-only here; change ${variableOf(id)} where the program is started, ` +
          "or put a storage that can be written before this one (FallbackStorage)"
      })
    })

  const refuseSave = (id: string) =>
    Effect.andThen(inOperation("save", id)(checkCredentialId(id)), Effect.fail(refusal("save", id)))

  return CredentialStorage.of({
    load: Effect.fn("EnvironmentStorage.load")(
      function*(id) {
        return Option.map(yield* read(id), (apiKey) => Credential.fromApiKey({ id, apiKey }))
      },
      (effect, id) => inOperation("load", id)(effect)
    ),
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
      (effect, id) => inOperation("delete", id)(effect)
    ),
    list: Effect.filter(Array.from(variables.keys()), isSet).pipe(
      inOperation("list"),
      Effect.withSpan("EnvironmentStorage.list")
    ),
    exists: Effect.fn("EnvironmentStorage.exists")((id) => inOperation("exists", id)(isSet(id))),
    loadState: Effect.fn("EnvironmentStorage.loadState")((id) =>
      Effect.map(checkCredentialId(id), () => states.get(id) ?? CredentialState.initial).pipe(
        inOperation("loadState", id)
      )
    ),
    saveState: Effect.fn("EnvironmentStorage.saveState")((id, state) =>
      Effect.map(checkCredentialId(id), () => {
        states.set(id, stateWithoutSave(state, CredentialState.initial))
      }).pipe(inOperation("saveState", id))
    ),
    // nothing can be saved or deleted here
    changes: Stream.empty,
    withLock: (id, effect) => Effect.andThen(inOperation("withLock", id)(checkCredentialId(id)), lock(id)(effect))
  })
})
