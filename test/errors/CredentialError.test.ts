import { assert, describe, it } from "@effect/vitest"
import * as Errors from "aden-credentials"
import { Duration, Effect, Predicate, Schema } from "effect"
import { isClean } from "../../src/util/sanitize.ts"

const seconds = Duration.seconds(90)
const connection = new Errors.AdenConnectionFailed({ detail: "ECONNREFUSED" })
const unavailable = (reason: Errors.AdenUnavailableReason) => new Errors.AdenUnavailable({ id: "hubspot", reason })
const storage = (reason: Errors.StorageReason) =>
  new Errors.CredentialStorageError({ id: "hubspot", operation: "save", reason })

/** One of each error that a program can see, with whether the same call can succeed later, and what its message must hold. */
const errors: ReadonlyArray<readonly [Extract<AnyError, Errors.Actionable>, boolean, RegExp]> = [
  [unavailable(connection), true, /Aden is unavailable for "hubspot": no connection: ECONNREFUSED/],
  [unavailable(new Errors.AdenTimeout({ after: seconds })), true, /no answer within 1m 30s/],
  [
    unavailable(new Errors.AdenProtocolError({ detail: "a body that is not JSON", status: 502, isTransient: true })),
    true,
    /HTTP 502: a body that is not JSON/
  ],
  [unavailable(new Errors.AdenProtocolError({ detail: "another tenant", isTransient: false })), true, /another tenant/],
  [unavailable(new Errors.AdenCircuitOpen({ retryAfter: seconds })), true, /failed several times in a row.*1m 30s/],
  [new Errors.AdenUnavailable({ reason: connection }), true, /^Aden is unavailable: no connection/],
  [new Errors.RateLimited({ id: "hubspot", retryAfter: seconds }), true, /"hubspot".*1m 30s/],
  [
    new Errors.ReauthRequired({
      id: "hubspot",
      reauthorizationUrl: "https://aden.example.com/connect",
      detail: "revoked"
    }),
    false,
    /"hubspot".*https:\/\/aden\.example\.com\/connect/
  ],
  [new Errors.ReauthRequired({ id: "hubspot" }), false, /"hubspot" has to be authorized again$/],
  [
    new Errors.RefreshFailed({ id: "hubspot", detail: "the provider timed out", retryAfter: seconds }),
    true,
    /timed out/
  ],
  [new Errors.AdenUnauthorized({ id: "hubspot", detail: "revoked" }), false, /API key for "hubspot": revoked/],
  [new Errors.AdenUnauthorized({}), false, /API key$/],
  [new Errors.AdenForbidden({ id: "hubspot", detail: "not this tenant" }), false, /"hubspot": not this tenant/],
  [new Errors.IntegrationNotFound({ id: "hub\"spot" }), false, /"hub\\"spot"/],
  [new Errors.AdenRejected({ id: "hubspot", status: 409, detail: "no" }), false, /HTTP 409\): no/],
  [
    new Errors.AdenConfigError({ setting: "ADEN_API_URL", detail: "is not set", remedy: "Set it." }),
    false,
    /^ADEN_API_URL is not set\. Set it\.$/
  ],
  [
    storage(new Errors.StorageIoFailed({ location: "/x/a.enc", detail: "EACCES" })),
    true,
    /save "hubspot": \/x\/a\.enc: EACCES/
  ],
  [
    storage(new Errors.StorageInsecure({ location: "/x", detail: "can be written by others", mend: "chmod 700 /x" })),
    false,
    /run: chmod 700 \/x/
  ],
  [storage(new Errors.InvalidCredentialId({ detail: "the id is empty" })), false, /the id is empty/],
  [storage(new Errors.StorageRefused({ detail: "it is read-only" })), false, /read-only/],
  [storage(new Errors.LockTimeout({ after: seconds })), true, /locked by another process for 1m 30s/],
  [storage(unavailable(connection)), true, /ECONNREFUSED/],
  [storage(new Errors.AdenForbidden({})), false, /does not allow/],
  [
    new Errors.CredentialDecryptionFailed({ id: "hubspot", location: "/x/a.enc", detail: "another key" }),
    false,
    /"hubspot" in \/x\/a\.enc.*another key/
  ],
  [new Errors.FernetTokenInvalid({ reason: "NotAuthentic" }), false, /another key/],
  [new Errors.GenerationConflict({ id: "hubspot", expected: 1, actual: 2 }), true, /generation 2, expected 1/],
  [new Errors.CredentialNotFound({ ref: "hubspot" }), false, /no credential "hubspot"/],
  [new Errors.CredentialNotFound({ ref: "" }), false, /empty ref/],
  [new Errors.AmbiguousCredential({ ref: "google", choices: ["google:A", "google:B"] }), false, /google:A, google:B/],
  [new Errors.CredentialKeyNotFound({ ref: "hubspot", key: "api_key" }), false, /no key "api_key"/],
  [new Errors.CredentialKeyNotFound({ ref: "hubspot" }), false, /holds no token/],
  [
    new Errors.InsufficientTimeLeft({
      ref: "hubspot",
      minTimeLeft: Duration.minutes(20),
      timeLeft: Duration.minutes(10)
    }),
    false,
    /"hubspot".*10m/
  ],
  [
    new Errors.ReauthorizationTimeout({
      ref: "hubspot",
      after: seconds,
      reauthorizationUrl: "https://aden.example.com/connect"
    }),
    false,
    /"hubspot"/
  ],
  [
    new Errors.RequiredCredentialsUnusable({
      problems: [
        { ref: "hubspot", error: unavailable(connection) },
        { ref: "slack", error: new Errors.ReauthRequired({ id: "slack" }) }
      ]
    }),
    false,
    /ECONNREFUSED; .*"slack"/
  ],
  [new Errors.NoProvider({ ref: "hubspot" }), false, /"hubspot"/],
  [
    new Errors.CredentialTemplateError({
      place: "header X-Api-Key",
      reason: new Errors.TemplateMalformed({ offset: 7, detail: "is not closed" })
    }),
    false,
    /^The template in header X-Api-Key cannot be expanded: the placeholder at offset 7 is not closed$/
  ],
  [
    new Errors.CredentialTemplateError({ reason: new Errors.TemplateRefused({ ref: "hubspot" }) }),
    false,
    /^The template cannot be expanded: "hubspot" is not among the refs allowed here$/
  ],
  [
    new Errors.CredentialTemplateError({ reason: new Errors.TemplateRefused({ ref: "hubspot", key: "_alias" }) }),
    false,
    /the key "_alias" is internal/
  ],
  [
    new Errors.CredentialTemplateError({ reason: new Errors.TemplateUnfit({ detail: "it holds a line break" }) }),
    false,
    /it holds a line break/
  ],
  [
    new Errors.CredentialHostDenied({ ref: "hubspot", host: "evil.test", detail: "it is not an allowed host" }),
    false,
    /"hubspot" is not sent to "evil.test": it is not an allowed host/
  ],
  [
    new Errors.TenantError({ tenantId: "..", reason: new Errors.InvalidTenantId({ detail: "it is a path" }) }),
    false,
    /".." has no credentials: it is a path/
  ],
  [
    new Errors.TenantError({
      tenantId: "acme",
      reason: new Errors.TenantLookupFailed({ detail: "the vault does not answer", isTransient: true })
    }),
    true,
    /"acme".*vault/
  ],
  [
    new Errors.TenantError({
      tenantId: "globex",
      reason: new Errors.TenantsShareLayers({ owner: "acme", isOfAnotherPlatform: false })
    }),
    false,
    /"globex" has no credentials: tenant "acme" is provided in the same build or around it/
  ]
]

type AnyError = InstanceType<Extract<typeof Errors[keyof typeof Errors], abstract new(...args: never) => Error>>

const classes = new Map<string, Schema.Codec<AnyError, unknown>>()
const isErrorClass = (value: unknown): value is Schema.Codec<AnyError, unknown> =>
  typeof value === "function" && value.prototype instanceof Error
for (const [name, value] of Object.entries(Errors)) {
  if (isErrorClass(value)) classes.set(name, value)
}

/** The error and the reasons inside it. */
const withReasons = (error: object): ReadonlyArray<object & { readonly _tag: string }> =>
  Predicate.hasProperty(error, "_tag") && typeof error._tag === "string"
    ? [
      Object.assign(error, { _tag: error._tag }),
      ...Predicate.hasProperty(error, "reason") && Predicate.isObject(error.reason) ? withReasons(error.reason) : []
    ]
    : []

/** Fields that hold one of a few words, or what this package wrote. */
const notFromOutside = new Set(["_tag", "reason", "remedy"])

/** The same JSON with hostile text in each field that came from outside. */
const hostile = (json: unknown): unknown =>
  typeof json === "string"
    ? `${json}\u001b]52;c;ZXZpbA==\u0007\u009b\u202e\u200b\nerror: run it`
    : Array.isArray(json)
    ? json.map(hostile)
    : Predicate.isObject(json)
    ? Object.fromEntries(
      Object.entries(json).map(([name, value]) => [
        name,
        typeof value === "string" && notFromOutside.has(name) ? value : hostile(value)
      ])
    )
    : json

const named = errors.map((row) => [row[0]._tag, ...row] as const)

describe("every error", () => {
  it("is among those tested here", () => {
    const tested = new Set(errors.flatMap(([error]) => withReasons(error).map(({ _tag }) => _tag)))
    assert.deepStrictEqual(Array.from(tested).toSorted(), Array.from(classes.keys()).toSorted())
  })

  it.each(named)("%s has a one-line message, isRetryable and remedy", (_, error, isRetryable, message) => {
    assert.match(error.message, message)
    assert.notMatch(error.message, /[\r\n]|undefined|\[object/)
    assert.strictEqual(error.isRetryable, isRetryable)
    assert.match(error.remedy, /^[A-Z].*[^\s]$/)
    assert.strictEqual(error.name, error._tag)
    assert.include(String(error.stack), error.message)
  })

  it.effect.each(named)(
    "%s says nothing that steers a terminal or hides, whatever it is about",
    ([, error]) =>
      Effect.gen(function*() {
        const schema = classes.get(error._tag)
        assert(schema !== undefined)
        const codec = Schema.toCodecJson(schema)
        const about = yield* Schema.decodeUnknownEffect(codec)(hostile(yield* Schema.encodeEffect(codec)(error)))
        assert.isTrue(isClean(about.message), JSON.stringify(about.message))
        assert.notInclude(about.message, "\\u", "nor what it would be in JSON")
        const remedy = "remedy" in about ? about.remedy ?? "" : ""
        assert.isTrue(isClean(remedy), JSON.stringify(remedy))
      })
  )

  it.effect.each(named)("%s goes through JSON and back", ([, error]) =>
    Effect.gen(function*() {
      const schema = classes.get(error._tag)
      assert(schema !== undefined)
      const codec = Schema.toCodecJson(schema)
      const text = JSON.stringify(yield* Schema.encodeEffect(codec)(error))
      const back = yield* Schema.decodeUnknownEffect(codec)(JSON.parse(text))
      assert.strictEqual(back.constructor, error.constructor)
      assert.strictEqual(back.message, error.message)
      assert.deepStrictEqual(yield* Schema.encodeEffect(codec)(back), JSON.parse(text))
    }))
})

describe("retryAfter", () => {
  it("is there where a time is known", () => {
    assert.deepStrictEqual(unavailable(new Errors.AdenCircuitOpen({ retryAfter: seconds })).retryAfter, seconds)
    assert.deepStrictEqual(new Errors.RateLimited({ retryAfter: seconds }).retryAfter, seconds)
    assert.strictEqual(unavailable(connection).retryAfter, undefined)
    assert.strictEqual(unavailable(new Errors.AdenCircuitOpen({})).retryAfter, undefined)
  })

  it("is rounded up to whole seconds in a message", () => {
    assert.include(new Errors.RateLimited({ retryAfter: Duration.millis(1) }).message, "1s")
    assert.include(new Errors.RateLimited({ retryAfter: Duration.millis(59_001) }).message, "1m")
  })
})

describe("in a program", () => {
  it.effect("catchTag tells the errors apart", () =>
    Effect.gen(function*() {
      const failing: Effect.Effect<never, Errors.AdenFailure> = Effect.fail(
        new Errors.ReauthRequired({ id: "hubspot", reauthorizationUrl: "https://aden.example.com/connect" })
      )
      const url = yield* failing.pipe(
        Effect.catchTag("AdenUnavailable", () => Effect.succeed("unavailable")),
        Effect.catchTag("ReauthRequired", (error) => Effect.succeed(error.reauthorizationUrl))
      )
      assert.strictEqual(url, "https://aden.example.com/connect")
    }))

  it.effect("catchReason reaches into AdenUnavailable", () =>
    Effect.gen(function*() {
      const handled = (reason: Errors.AdenUnavailableReason) =>
        Effect.fail(unavailable(reason)).pipe(
          Effect.catchReason("AdenUnavailable", "AdenProtocolError", (reason) => Effect.succeed(reason.status)),
          Effect.catchReason("AdenUnavailable", "AdenCircuitOpen", (reason) => Effect.succeed(reason.retryAfter)),
          Effect.catchTag("AdenUnavailable", (error) => Effect.succeed(error.reason._tag))
        )
      assert.strictEqual(
        yield* handled(new Errors.AdenProtocolError({ detail: "", status: 502, isTransient: true })),
        502
      )
      assert.strictEqual(yield* handled(new Errors.AdenCircuitOpen({ retryAfter: seconds })), seconds)
      assert.strictEqual(yield* handled(connection), "AdenConnectionFailed")
    }))

  it.effect("catchReason reaches an error of Aden's inside a storage error", () =>
    Effect.gen(function*() {
      const retryAfter = yield* Effect.fail(storage(new Errors.RateLimited({ retryAfter: seconds }))).pipe(
        Effect.catchReason("CredentialStorageError", "RateLimited", (reason) => Effect.succeed(reason.retryAfter))
      )
      assert.strictEqual(retryAfter, seconds)
    }))

  it("the unions hold what their types hold", () => {
    assert.isTrue(Schema.is(Errors.AdenFailure)(unavailable(connection)))
    assert.isFalse(Schema.is(Errors.AdenFailure)(new Errors.CredentialNotFound({ ref: "hubspot" })))
    assert.isTrue(Schema.is(Errors.CredentialFailure)(new Errors.CredentialNotFound({ ref: "hubspot" })))
    assert.isFalse(Schema.is(Errors.CredentialFailure)(new Errors.IntegrationNotFound({ id: "hubspot" })))
  })
})
