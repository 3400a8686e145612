import { assert, describe, it } from "@effect/vitest"
import { DateTime, Option, Redacted, Result } from "effect"
import { Credential, CredentialKey } from "../../../src/model/Credential.ts"
import { decodeDocument, encodeDocument } from "../../../src/storage/format/HiveDocument.ts"
import type { HiveDocument } from "../../../src/storage/format/HiveDocument.ts"
import { parseMembers } from "../../../src/util/rawJson.ts"
import { anyCredential, keepsExtra, plain } from "../credentialArbitrary.ts"

const now = DateTime.makeUnsafe("2026-11-22T16:06:03.123Z")

const decode = (text: string): HiveDocument => Result.getOrThrow(decodeDocument(text))
const encode = (credential: Credential, stored?: HiveDocument): string =>
  Result.getOrThrow(encodeDocument(credential, now, stored))
const refusal = (text: string): string | undefined => Option.getOrUndefined(Result.getFailure(decodeDocument(text)))

describe("the stored document", () => {
  it.prop("of any credential is JSON, and is read as that credential", [anyCredential], ([credential]) => {
    const text = encode(credential)
    assert.doesNotThrow(() => JSON.parse(text))
    const { credential: read } = decode(text)
    assert.deepStrictEqual(plain(read), plain(credential))
    assert.isTrue(keepsExtra(credential, read))
  })

  it.prop("saved unchanged is the same text but for updated_at", [anyCredential], ([credential]) => {
    const stored = decode(encode(credential))
    const later = Result.getOrThrow(
      encodeDocument(stored.credential, DateTime.makeUnsafe("2027-01-01T00:00:00Z"), stored)
    )
    const fields = parseMembers(later)
    assert.strictEqual(fields?.get("updated_at"), "\"2027-01-01T00:00:00Z\"")
    assert.deepStrictEqual(
      Array.from(fields ?? []).filter(([name]) => name !== "updated_at"),
      Array.from(stored.members).filter(([name]) => name !== "updated_at")
    )
  })

  it.prop("of one credential over another's is that of the one, with the other's unknown fields", [
    anyCredential,
    anyCredential
  ], ([before, after]) => {
    const stored = decode(encode(before))
    const { credential } = decode(encode(after, stored))
    assert.deepStrictEqual(plain(credential), { ...plain(after), id: before.id })
    const namedBefore = Array.from(before.extra?.keys() ?? [])
    for (const name of namedBefore) assert.isTrue(credential.extra?.has(name))
    assert.isTrue(keepsExtra(after, credential))
  })

  it("keeps every unknown field as the text it was", () => {
    const text =
      "{\"id\":\"x\",\"a\":1.0,\"b\" : 12345678901234567890 , \"__proto__\": {\"c\" :[ 1,2 ] },\"e\":\"\\u00e9\"," +
      "\"keys\":{\"__proto__\":{\"value\":\"v\",\"metadata\":{\"n\":1e2},\"toString\":null}},\"constructor\":-0}"
    const stored = decode(text)
    const key = stored.credential.keys.get("__proto__")
    assert.strictEqual(key === undefined ? "" : Redacted.value(key.value), "v")
    assert.deepStrictEqual(
      Array.from(stored.credential.extra ?? [], ([name, raw]) => [name, Redacted.value(raw)]),
      [["a", "1.0"], ["b", "12345678901234567890"], ["__proto__", "{\"c\" :[ 1,2 ] }"], ["e", "\"\\u00e9\""], [
        "constructor",
        "-0"
      ]]
    )
    assert.strictEqual(
      encode(stored.credential, stored),
      "{\"id\": \"x\", \"a\": 1.0, \"b\": 12345678901234567890, \"__proto__\": {\"c\" :[ 1,2 ] }, \"e\": \"\\u00e9\", " +
        "\"keys\": {\"__proto__\": {\"value\": \"v\", \"metadata\": {\"n\":1e2}, \"toString\": null, \"name\": \"__proto__\"}}, " +
        "\"constructor\": -0, \"updated_at\": \"2026-11-22T16:06:03.123Z\"}"
    )
    assert.isUndefined(Object.getPrototypeOf({}).c)
  })

  it("an unchanged value keeps its spelling, a changed one gets a new one", () => {
    const key = "{\"name\": \"k\", \"value\": \"caf\\u00e9\", \"expires_at\": \"2030-01-01T05:30:00.123456+05:30\"}"
    const stored = decode(`{"id": "x", "description": "\\u041a", "keys": {"k": ${key}}}`)
    assert.include(encode(stored.credential, stored), key)
    assert.include(encode(stored.credential, stored), "\"description\": \"\\u041a\"")
    const renewed = new Credential({
      ...stored.credential,
      description: "\u041a2",
      keys: new Map([["k", new CredentialKey({ name: "k", value: Redacted.make("new") })]])
    })
    assert.include(encode(renewed, stored), "{\"name\": \"k\", \"value\": \"new\", \"expires_at\": null}")
    assert.include(encode(renewed, stored), "\"description\": \"\u041a2\"")
  })

  it("of two fields of one name the last counts", () => {
    const { credential } = decode(
      "{\"id\": \"a\", \"id\": \"b\", \"x\": 1, \"x\": 2, \"keys\": {\"k\": {\"value\": \"1\", \"value\": \"2\"}}}"
    )
    assert.strictEqual(credential.id, "b")
    assert.strictEqual(Redacted.value(credential.keys.get("k")?.value ?? Redacted.make("")), "2")
    assert.strictEqual(Redacted.value(credential.extra?.get("x") ?? Redacted.make("")), "2")
  })

  it("times without a zone are read as UTC and written with one", () => {
    const stored = decode(
      "{\"id\": \"x\", \"last_refreshed\": \"2026-01-28T14:30:00\", \"created_at\": \"2026-01-28T14:30:00.123456\", \"last_used\": \"2026-01-28 14:30:00\", " +
        "\"keys\": {\"k\": {\"value\": \"v\", \"expires_at\": \"2030-01-01T00:00:00.5\"}}}"
    )
    assert.deepStrictEqual(stored.credential.lastRefreshed, DateTime.makeUnsafe("2026-01-28T14:30:00Z"))
    assert.deepStrictEqual(stored.credential.keys.get("k")?.expiresAt, DateTime.makeUnsafe("2030-01-01T00:00:00.500Z"))
    const text = encode(stored.credential, stored)
    assert.include(text, "\"last_refreshed\": \"2026-01-28T14:30:00Z\"")
    assert.include(text, "\"created_at\": \"2026-01-28T14:30:00.123456Z\"")
    assert.include(text, "\"last_used\": \"2026-01-28 14:30:00Z\"")
    assert.include(text, "\"expires_at\": \"2030-01-01T00:00:00.5Z\"")
  })

  it("null and absent fields have Hive's defaults", () => {
    const { credential } = decode(
      "{\"id\": \"x\", \"credential_type\": null, \"provider_id\": null, \"last_refreshed\": null, \"auto_refresh\": null, \"description\": null, \"tags\": null}"
    )
    assert.deepStrictEqual(plain(credential), {
      id: "x",
      type: "api_key",
      keys: [],
      providerId: undefined,
      lastRefreshed: undefined,
      autoRefresh: false,
      description: "",
      tags: [],
      issuer: [undefined, undefined]
    })
  })

  it("a field that only says when is not worth refusing a credential for, one that says until when is", () => {
    const stored = decode("{\"id\": \"x\", \"last_refreshed\": \"yesterday\"}")
    assert.isUndefined(stored.credential.lastRefreshed)
    assert.include(encode(stored.credential, stored), "\"last_refreshed\": \"yesterday\"")
    assert.match(
      refusal("{\"id\": \"x\", \"keys\": {\"k\": {\"value\": \"v\", \"expires_at\": \"soon\"}}}") ?? "",
      /expires_at/
    )
  })

  it("names the issuer, until a credential without one takes its place", () => {
    const credential = Credential.fromApiKey({ id: "weather", apiKey: Redacted.make("key") })
    const issued = new Credential({ ...credential, issuer: { name: "https://aden.example.com", tenantId: "acme" } })
    const text = encode(issued)
    assert.deepStrictEqual(JSON.parse(text)._issuer, { name: "https://aden.example.com", tenant_id: "acme" })
    assert.notProperty(JSON.parse(encode(credential, decode(text))), "_issuer")
    assert.include(refusal("{\"id\":\"a\",\"_issuer\":\"b\"}"), "_issuer")
  })

  it("white space does not matter", () => {
    assert.strictEqual(decode(" \r\n\t{ \"id\" : \"x\" , \"keys\" : { } } \n").credential.id, "x")
  })

  it.each([
    ["", /not a JSON object/],
    ["secret", /not a JSON object/],
    ["[1]", /not a JSON object/],
    ["null", /not a JSON object/],
    ["\"{}\"", /not a JSON object/],
    ["{\"id\": \"x\"", /not a JSON object/],
    ["{\"id\": \"x\"} {}", /not a JSON object/],
    ["{\"keys\": {}}", /no id/],
    ["{\"id\": null}", /no id/],
    ["{\"id\": 7}", /field id/],
    ["{\"id\": {\"secret\": 1}}", /field id/],
    ["{\"id\": \"x\", \"credential_type\": \"secret\"}", /field credential_type/],
    ["{\"id\": \"x\", \"keys\": [\"secret\"]}", /keys are not/],
    ["{\"id\": \"x\", \"keys\": null}", /keys are not/],
    ["{\"id\": \"x\", \"keys\": {\"secret\": \"secret\"}}", /one of its keys/],
    ["{\"id\": \"x\", \"keys\": {\"secret\": {}}}", /no value/],
    ["{\"id\": \"x\", \"keys\": {\"secret\": {\"value\": null}}}", /no value/],
    ["{\"id\": \"x\", \"keys\": {\"secret\": {\"value\": 7}}}", /field value/],
    ["{\"id\": \"x\", \"tags\": \"secret\"}", /field tags/],
    ["{\"id\": \"x\", \"tags\": [1]}", /field tags/],
    ["{\"id\": \"x\", \"description\": [\"secret\"]}", /field description/],
    ["{\"id\": \"x\", \"auto_refresh\": \"secret\"}", /field auto_refresh/],
    ["{\"id\": \"x\", \"provider_id\": 7}", /field provider_id/]
  ])("refuses %s without showing any of it", (text, detail) => {
    const refused = refusal(text)
    assert.match(refused ?? "", detail)
    assert.notInclude(refused, "secret")
  })

  it("no depth of nesting overflows the stack", () => {
    const depth = 100_000
    const bomb = "[".repeat(depth) + "]".repeat(depth)
    const objects = "{\"a\":".repeat(depth) + "1" + "}".repeat(depth)
    const stored = decode(`{"id": "x", "bomb": ${bomb}, "objects": ${objects}}`)
    assert.isTrue(encode(stored.credential, stored).includes(bomb))
    for (const field of ["id", "keys", "tags", "credential_type", "last_refreshed"]) {
      const text = `{"id": "x", "${field}": ${bomb}}`
      if (field !== "last_refreshed") assert.isDefined(refusal(text))
    }
    assert.match(refusal(bomb) ?? "", /not a JSON object/)
  })

  it("an extra field cannot stand in for a modelled one", () => {
    const credential = new Credential({
      ...Credential.fromApiKey({ id: "x", apiKey: Redacted.make("v") }),
      extra: new Map([["id", Redacted.make("\"y\"")], ["keys", Redacted.make("{}")], [
        "updated_at",
        Redacted.make("1")
      ]])
    })
    const read = decode(encode(credential))
    assert.strictEqual(read.credential.id, "x")
    assert.strictEqual(read.credential.keys.size, 1)
    assert.strictEqual(read.members.get("updated_at"), "\"2026-11-22T16:06:03.123Z\"")
  })
})
