import { assert, describe, it } from "@effect/vitest"
import { DateTime, Effect, Redacted, Result, Schema } from "effect"
import { OpenApi } from "effect/http-api"
import {
  AccessToken,
  AdenApi,
  CredentialAnswer,
  ErrorAnswer,
  HealthAnswer,
  IntegrationId,
  IntegrationItem,
  IntegrationListAnswer,
  UsageAnswer,
  UsagePayload,
  ValidationAnswer
} from "../../../src/providers/aden/AdenApi.ts"
import { accessToken, credentialBody } from "../../fixtures/adenClients.ts"

describe("OpenApi.fromApi(AdenApi)", () => {
  const document = OpenApi.fromApi(AdenApi)

  const operations = Object.entries(document.paths).flatMap(([path, { get, post }]) =>
    [{ method: "GET", operation: get }, { method: "POST", operation: post }].flatMap(({ method, operation }) =>
      operation === undefined ? [] : [{ path, name: `${method} ${path}`, operation }]
    )
  )

  it("has the six endpoints and their statuses", () => {
    assert.deepStrictEqual(
      Object.fromEntries(operations.map(({ name, operation }) => [name, Object.keys(operation.responses).toSorted()])),
      {
        "GET /v1/credentials": ["200", "401", "403", "429"],
        "GET /v1/credentials/{integration_id}": ["200", "400", "401", "403", "404", "429"],
        "POST /v1/credentials/{integration_id}/refresh": ["200", "400", "401", "403", "404", "429"],
        "GET /v1/credentials/{integration_id}/validate": ["200", "401", "403", "404", "429"],
        "POST /v1/credentials/{integration_id}/usage": ["200", "401", "403", "404", "429"],
        "GET /health": ["200"]
      }
    )
  })

  it("asks for the bearer key on all but health, and names the headers", () => {
    for (const { operation, path } of operations) {
      assert.strictEqual((operation.security ?? []).length > 0, path !== "/health", path)
      const headers = (operation.parameters ?? []).filter((parameter) => parameter.in === "header")
      assert.deepStrictEqual(
        headers.map(({ name }) => name).toSorted(),
        path === "/health" ? [] : path.endsWith("/usage") ? ["idempotency-key", "x-tenant-id"] : ["x-tenant-id"]
      )
    }
    assert.include(JSON.stringify(document.components.securitySchemes), "Bearer")
  })

  it("is plain JSON", () => {
    assert.deepStrictEqual(JSON.parse(JSON.stringify(document)), document)
  })
})

describe("answers", () => {
  /** What a schema makes of its own writing, as JSON text. */
  const again = <A, I>(schema: Schema.Codec<A, I>, value: A) =>
    Effect.gen(function*() {
      const text = JSON.stringify(yield* Schema.encodeEffect(schema)(value))
      const decoded = yield* Schema.decodeUnknownEffect(schema)(JSON.parse(text))
      return { decoded, text, textAgain: JSON.stringify(yield* Schema.encodeEffect(schema)(decoded)) }
    })

  const Text = Schema.Literals(["", "hubspot", "google:Timothy", "日本語", "a b"])
  const Moment = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 253_402_300_799_999 }))
  const Token = Schema.Literals([accessToken, "!", "~", "a.b-c_d=="])

  it.effect.prop(
    "a credential is read back as it was written",
    [Text, Token, Moment, Schema.Array(Text), Schema.Record(Schema.String, Schema.Json)],
    ([text, token, moment, scopes, metadata]) =>
      Effect.gen(function*() {
        const expires_at = DateTime.makeUnsafe(moment)
        const { decoded, text: first, textAgain } = yield* again(CredentialAnswer, {
          integration_id: text,
          integration_type: text,
          access_token: Redacted.make(token),
          token_type: "Bearer",
          expires_at,
          scopes,
          metadata
        })
        assert.strictEqual(textAgain, first)
        assert.strictEqual(Redacted.value(decoded.access_token), token)
        assert.strictEqual(decoded.expires_at?.epochMilliseconds, moment)
        assert.deepStrictEqual(decoded.scopes, scopes)
      })
  )

  it.effect.prop(
    "a list, a validation, health and a report too",
    [Text, Moment, Schema.Finite, Schema.Boolean],
    ([text, moment, number, flag]) =>
      Effect.gen(function*() {
        const time = DateTime.makeUnsafe(moment)
        const id = text === "" ? "x" : text
        for (
          const { text: first, textAgain } of [
            yield* again(IntegrationListAnswer, {
              integrations: [{
                integration_id: id,
                provider: text,
                alias: null,
                status: "active",
                expires_at: flag ? time : null
              }],
              tenant_id: text
            }),
            yield* again(ValidationAnswer, {
              valid: flag,
              reason: text,
              expires_at: time,
              expires_in_seconds: number,
              requires_reauthorization: flag,
              reauthorization_url: text
            }),
            yield* again(HealthAnswer, { status: text, version: null, timestamp: time }),
            yield* again(UsagePayload, {
              operation: text,
              status: text,
              timestamp: time,
              metadata: { text, flag, list: [null] }
            }),
            yield* again(UsageAnswer, { received: flag }),
            yield* again(ErrorAnswer, {
              error: text,
              message: text,
              requires_reauthorization: flag,
              reauthorization_url: null
            })
          ]
        ) {
          assert.strictEqual(textAgain, first)
        }
      })
  )

  it.effect.prop(
    "any JSON is read or refused, and never repeated in the refusal",
    [Schema.Json],
    ([json]) =>
      Effect.sync(() => {
        const hidden = {
          wrapped: json,
          access_token: { secret: "hunter2" },
          valid: "hunter2",
          status: ["hunter2"],
          received: "hunter2"
        }
        for (
          const schema of [CredentialAnswer, IntegrationItem, ValidationAnswer, HealthAnswer, UsageAnswer, ErrorAnswer]
        ) {
          for (const input of [json, hidden]) {
            const result = Schema.decodeUnknownResult<Schema.Codec<unknown, unknown>>(schema)(input)
            if (Result.isFailure(result)) assert.notInclude(result.failure.message, "hunter2")
          }
        }
      })
  )

  it.effect("a token never shows when its answer is printed", () =>
    Effect.gen(function*() {
      const decoded = yield* Schema.decodeUnknownEffect(CredentialAnswer)(credentialBody)
      assert.notInclude(JSON.stringify(decoded) + String(decoded.access_token), accessToken.slice(0, 8))
    }))
})

describe("fields", () => {
  it.each(["!", "~", "abc", "a".repeat(100_000)])(
    "%.20s is an access token",
    (text) => assert.isTrue(Result.isSuccess(Schema.decodeUnknownResult(AccessToken)(text)))
  )

  it.each(["", " ", "a b", "a\n", "\n", "é", "\u0000", "a\u007f", 5, null, undefined, {}])(
    "%j is not an access token",
    (value) => assert.isTrue(Result.isFailure(Schema.decodeUnknownResult(AccessToken)(value)))
  )

  it.each(["a", "..", "a/b", "日本語", "😀", "i".repeat(1000)])(
    "%.20j is an integration id",
    (id) => assert.isTrue(Schema.is(IntegrationId)(id))
  )

  it.each(["", "a\u0000", "a\n", "\u202e", "\ud800", "i".repeat(1001), 5, null])(
    "%.20j is not an integration id",
    (id) => assert.isFalse(Schema.is(IntegrationId)(id))
  )
})
