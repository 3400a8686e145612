import { Arbitrary, DateTime, Redacted, Schema } from "effect"
import { Credential, CredentialKey, CredentialType } from "../../src/model/Credential.ts"

const pieces = Schema.Literals([
  "/",
  "\\",
  ".",
  "..",
  "_",
  "~",
  "a",
  "A",
  "b",
  "\u00e9",
  "e\u0301",
  " ",
  "\0",
  "\n",
  "\u001b[2J",
  "\u202e",
  "\u{1f600}",
  ":",
  "%2f",
  "\u00df",
  "con",
  "__proto__",
  "credentials",
  "long".repeat(60)
])

/** Ids that try to leave the directory, or to meet one another in one file. */
export const hostileId = Arbitrary.map(
  Arbitrary.array(Arbitrary.schema(pieces), { minLength: 1, maxLength: 5 }),
  (parts) => parts.join("")
)

/** Texts, with everything that JSON has to escape. */
export const anyText = Arbitrary.map(
  Arbitrary.all([
    Arbitrary.schema(Schema.String),
    Arbitrary.schema(Schema.Literals(["", "\"", "\\", "\u2028", "\ud83d", "{", "\\\"", "\u0000"]))
  ]),
  ([text, special]) => text + special
)

const time = Arbitrary.map(
  Arbitrary.schema(Schema.Int.check(Schema.isBetween({ minimum: -62_000_000_000_000, maximum: 253_402_300_799_999 }))),
  (millis) => DateTime.makeUnsafe(millis)
)

const optional = <A>(arbitrary: Arbitrary.Arbitrary<A>) =>
  Arbitrary.map(
    Arbitrary.all([Arbitrary.schema(Schema.Boolean), arbitrary]),
    ([present, value]) => present ? value : undefined
  )

const jsonText = Arbitrary.schema(
  Schema.Literals([
    "1.0",
    "12345678901234567890",
    "-0",
    "1e400",
    "null",
    "true",
    "[]",
    "{}",
    "\"x\"",
    "\"\\u00e9\"",
    "[1, {\"a\": \"]}\\\"\"}]"
  ])
)

const extra = Arbitrary.map(
  Arbitrary.array(
    Arbitrary.all([
      Arbitrary.schema(Schema.Literals(["x", "__proto__", "constructor", "", "use_count", "x y"])),
      jsonText
    ]),
    { maxLength: 3 }
  ),
  (entries) => entries.length === 0 ? undefined : new Map(entries.map(([name, raw]) => [name, Redacted.make(raw)]))
)

const keyName = Arbitrary.schema(
  Schema.Literals([
    "access_token",
    "refresh_token",
    "value",
    "api_key",
    "_alias",
    "__proto__",
    "",
    "\u043a\u043b\u044e\u0447"
  ])
)

const key = Arbitrary.map(
  Arbitrary.all({ name: keyName, value: anyText, expiresAt: optional(time), extra }),
  (fields) => new CredentialKey({ ...fields, value: Redacted.make(fields.value) })
)

/** Any credential, under any id. */
export const anyCredential = Arbitrary.map(
  Arbitrary.all({
    id: hostileId,
    type: Arbitrary.schema(CredentialType),
    keys: Arbitrary.array(key, { maxLength: 4 }),
    providerId: optional(anyText),
    lastRefreshed: optional(time),
    autoRefresh: Arbitrary.schema(Schema.Boolean),
    description: anyText,
    tags: Arbitrary.array(anyText, { maxLength: 3 }),
    issuer: optional(Arbitrary.all({ name: anyText, tenantId: optional(anyText) })),
    extra
  }),
  (fields) => new Credential({ ...fields, keys: new Map(fields.keys.map((key) => [key.name, key])) })
)

const plainExtra = (extra: Credential["extra"]): ReadonlyArray<readonly [string, string]> =>
  Array.from(extra ?? [], ([name, raw]) => [name, Redacted.value(raw)] as const)

/** What a credential says, in the open, to be compared. */
export const plain = (credential: Credential) => ({
  id: credential.id,
  type: credential.type,
  keys: Array.from(credential.keys, ([name, key]) => [
    name,
    Redacted.value(key.value),
    key.expiresAt?.epochMilliseconds
  ]),
  providerId: credential.providerId,
  lastRefreshed: credential.lastRefreshed?.epochMilliseconds,
  autoRefresh: credential.autoRefresh,
  description: credential.description,
  tags: credential.tags,
  issuer: [credential.issuer?.name, credential.issuer?.tenantId]
})

/** Whether every unknown field of one credential is in another, as the same text. */
export const keepsExtra = (before: Credential, after: Credential): boolean => {
  const within = (a: Credential["extra"], b: Credential["extra"]) => {
    const texts = new Map(plainExtra(b))
    return plainExtra(a).every(([name, raw]) => texts.get(name) === raw)
  }
  return within(before.extra, after.extra) &&
    Array.from(before.keys).every(([name, key]) => within(key.extra, after.keys.get(name)?.extra))
}
