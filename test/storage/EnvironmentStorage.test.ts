import { assert, describe, it } from "@effect/vitest"
import { CredentialProviders, CredentialStorage, CredentialStore, EnvironmentStorage } from "aden-credentials"
import { ConfigProvider, Effect, Layer, Option, Redacted } from "effect"
import { inspect } from "node:util"
import { readOnlySuite } from "./StorageContract.ts"

type Variables = Readonly<Record<string, string>>

/** A storage over these environment variables. */
const over = (environment: Variables, variables?: Variables) =>
  EnvironmentStorage.layer({ variables }).pipe(
    Layer.provide(ConfigProvider.layer(ConfigProvider.fromEnvRecord({ ...environment })))
  )

const using = <A, E>(
  layer: ReturnType<typeof over>,
  use: (storage: CredentialStorage["Service"]) => Effect.Effect<A, E>
) => Effect.provide(CredentialStorage.use(use), layer)

const valueIn = (environment: Variables, id: string, variables?: Variables) =>
  using(over(environment, variables), (storage) =>
    Effect.map(
      storage.load(id),
      (credential) =>
        Option.match(credential, {
          onNone: () => undefined,
          onSome: ({ defaultKey }) => defaultKey === undefined ? undefined : Redacted.value(defaultKey.value)
        })
    ))

readOnlySuite("EnvironmentStorage", (values) => {
  const ids = Object.keys(values)
  return over(
    Object.fromEntries(ids.map((id, index) => [`VALUE_${index}`, values[id] ?? ""])),
    Object.fromEntries(ids.map((id, index) => [id, `VALUE_${index}`]))
  )
})

describe("EnvironmentStorage", () => {
  it.effect.each([
    { name: "hubspot", variable: "HUBSPOT_API_KEY" },
    { name: "brave_search", variable: "BRAVE_SEARCH_API_KEY" },
    { name: "google:Work", variable: "GOOGLE_WORK_API_KEY" },
    { name: "a/b.c-d e", variable: "A_B_C_D_E_API_KEY" },
    { name: "caf\u00e9\u{1f600}\u00df", variable: "CAF____API_KEY" },
    { name: "1password", variable: "_1PASSWORD_API_KEY" },
    { name: "__proto__", variable: "__PROTO___API_KEY" }
  ])("$name is read from its variable by rule", ({ name, variable }) =>
    Effect.gen(function*() {
      assert.strictEqual(yield* valueIn({ [variable]: "secret" }, name), "secret")
      assert.isUndefined(yield* valueIn({}, name))
    }))

  it.effect("is an API key under the name api_key", () =>
    using(
      over({ HUBSPOT_API_KEY: "secret" }),
      Effect.fnUntraced(function*(storage) {
        const credential = Option.getOrThrow(yield* storage.load("hubspot"))
        assert.strictEqual(credential.type, "api_key")
        assert.deepStrictEqual([...credential.keys.keys()], ["api_key"])
        assert.isUndefined(credential.providerId)
        assert.notInclude(inspect(credential, { depth: Infinity }) + JSON.stringify(credential), "secret")
      })
    ))

  it.effect("a variable of one's own stands in the place of the one by rule", () =>
    Effect.gen(function*() {
      const environment = { GITHUB_TOKEN: "named", GITHUB_API_KEY: "by rule", HUBSPOT_API_KEY: "other" }
      const variables = { github: "GITHUB_TOKEN" }
      assert.strictEqual(yield* valueIn(environment, "github", variables), "named")
      assert.strictEqual(yield* valueIn(environment, "hubspot", variables), "other")
      assert.isUndefined(yield* valueIn({ GITHUB_API_KEY: "by rule" }, "github", variables))
    }))

  it.effect("an empty variable counts as not set", () =>
    using(
      over({ HUBSPOT_API_KEY: "", GITHUB_TOKEN: "" }, { github: "GITHUB_TOKEN" }),
      Effect.fnUntraced(function*(storage) {
        for (const id of ["hubspot", "github"]) {
          assert.isTrue(Option.isNone(yield* storage.load(id)))
          assert.isFalse(yield* storage.exists(id))
        }
        assert.deepStrictEqual(yield* storage.list, [])
      })
    ))

  it.effect("a source of settings that keeps empty texts makes no difference", () =>
    Effect.gen(function*() {
      const storage = yield* CredentialStorage
      assert.isTrue(Option.isNone(yield* storage.load("hubspot")))
    }).pipe(
      Effect.provide(
        EnvironmentStorage.layer().pipe(
          Layer.provide(
            ConfigProvider.layer(
              ConfigProvider.fromEnvRecord({ HUBSPOT_API_KEY: "" }, { preserveEmptyStrings: true })
            )
          )
        )
      )
    ))

  it.effect("a variable whose name begins others is read all the same", () =>
    Effect.gen(function*() {
      const environment = { HUBSPOT_API_KEY: "it", HUBSPOT_API_KEY_OLD: "other", HUBSPOT_API_KEY_2: "another" }
      assert.strictEqual(yield* valueIn(environment, "hubspot"), "it")
      assert.isUndefined(yield* valueIn({ HUBSPOT_API_KEY_OLD: "other" }, "hubspot"))
      assert.isUndefined(yield* valueIn({ HUBSPOT_API_KEY_0: "other" }, "hubspot"))
    }))

  it.effect("lists what is named and set, and nothing that is only there by rule", () =>
    using(
      over(
        { GITHUB_TOKEN: "x", HUBSPOT_API_KEY: "x", OPENAI_API_KEY: "x" },
        { github: "GITHUB_TOKEN", slack: "SLACK_TOKEN", hubspot: "HUBSPOT_API_KEY" }
      ),
      Effect.fnUntraced(function*(storage) {
        assert.sameMembers([...yield* storage.list], ["github", "hubspot"])
        assert.isTrue(yield* storage.exists("openai"))
      })
    ))

  it.effect("the agent's own key is a credential only where it is named", () =>
    Effect.gen(function*() {
      for (const id of ["aden", "ADEN", "Aden"]) assert.isUndefined(yield* valueIn({ ADEN_API_KEY: "secret" }, id))
      assert.strictEqual(yield* valueIn({ ADEN_API_KEY: "secret" }, "aden", { aden: "ADEN_API_KEY" }), "secret")
    }))

  it.effect("reads a variable when it is asked for, not before", () =>
    Effect.gen(function*() {
      let value: string | undefined = undefined
      const settings = ConfigProvider.make((path) =>
        Effect.sync(() =>
          path.join("_") === "HUBSPOT_API_KEY" && value !== undefined ? ConfigProvider.makeValue(value) : undefined
        )
      )
      yield* Effect.gen(function*() {
        const storage = yield* CredentialStorage
        assert.isFalse(yield* storage.exists("hubspot"))
        value = "first"
        assert.isTrue(yield* storage.exists("hubspot"))
      }).pipe(Effect.provide(EnvironmentStorage.layer().pipe(Layer.provide(ConfigProvider.layer(settings)))))
    }))

  it.effect("settings that cannot be read are an error without what they hold", () =>
    Effect.gen(function*() {
      const storage = yield* CredentialStorage
      const error = yield* Effect.flip(storage.load("hubspot"))
      assert.strictEqual(
        error.message,
        "Storage could not load \"hubspot\": HUBSPOT_API_KEY: the setting cannot be read"
      )
      assert.notInclude(inspect(error, { depth: Infinity, showHidden: true }), "secret")
      assert.strictEqual((yield* Effect.flip(storage.list)).operation, "list")
    }).pipe(
      Effect.provide(
        EnvironmentStorage.layer({ variables: { a: "A" } }).pipe(
          Layer.provide(ConfigProvider.layer(
            ConfigProvider.make(() => Effect.fail(new ConfigProvider.SourceError({ message: "secret" })))
          ))
        )
      )
    ))

  it.effect.each(["", "MY-KEY", "MY KEY", "1KEY", "A=B", "A\0", "\u00c9", "A\n"])(
    "refuses %j as the name of a variable, with the name and the id",
    (variable) =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(using(over({}, { github: variable }), () => Effect.void))
        assert.strictEqual(error._tag, "AdenConfigError")
        assert.include(error.message, "variables")
        assert.include(error.message, "\"github\"")
        // what would not be seen is not shown
        assert.include(error.message, `names ${JSON.stringify(variable.replace(/[\0\n]/g, ""))}`)
        assert.isFalse(error.isRetryable)
      })
  )

  it.effect("refuses what is no id", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(using(over({}, { "": "MY_KEY" }), () => Effect.void))
      assert.strictEqual(error._tag, "AdenConfigError")
      assert.include(error.message, "names MY_KEY for an invalid id: an id cannot be empty")
    }))

  it.effect("what is refused says which variable to change", () =>
    using(
      over({ GITHUB_TOKEN: "secret" }, { github: "GITHUB_TOKEN" }),
      Effect.fnUntraced(function*(storage) {
        const { message } = yield* Effect.flip(storage.delete("github"))
        assert.include(
          message,
          "Storage could not delete \"github\": environment variables are read-only here; change GITHUB_TOKEN"
        )
        assert.notInclude(message, "secret")
      })
    ))

  it.effect("a store over it answers the token, also of what is not listed", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      assert.strictEqual(Redacted.value(yield* store.token("hubspot")), "secret")
      assert.strictEqual((yield* Effect.flip(store.token("github")))._tag, "CredentialNotFound")
    }).pipe(
      Effect.provide(
        CredentialStore.layer().pipe(
          Layer.provide([CredentialProviders.layerNone, over({ HUBSPOT_API_KEY: "secret" })])
        )
      )
    ))
})
