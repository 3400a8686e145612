/**
 * The JSON document of a credential, in Hive's format. A save rewrites only the fields that `Credential` models and whose value
 * changed; all others keep their JSON text.
 */
import * as DateTime from "effect/DateTime"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { Credential, CredentialIssuer, CredentialKey, CredentialType } from "../../model/Credential.ts"
import { detached, membersOf, parseJson, parseMembers, renderMembers, rewriteMembers } from "../../util/rawJson.ts"
import { formatTimestamp, parseTimestamp } from "../../util/Timestamp.ts"

/** A credential with the JSON text that it was decoded from: of each field, and of each key. */
export interface HiveDocument {
  readonly credential: Credential
  /** The namespace of a database that the document names, which should be text; `undefined` when it names none. Not in `members`. */
  readonly namespace: unknown
  readonly members: ReadonlyMap<string, string>
  readonly keyTexts: ReadonlyMap<string, string>
}

type Members = ReadonlyMap<string, string>
type Extra = ReadonlyMap<string, Redacted.Redacted<string>>

const modelled = new Set([
  "id",
  "credential_type",
  "keys",
  "provider_id",
  "last_refreshed",
  "auto_refresh",
  "description",
  "tags",
  "_issuer",
  "_tenant_id",
  "_namespace"
])
const modelledInKey = new Set(["name", "value", "expires_at"])

/** Times that `Credential` does not model, but whose zone is completed. */
const keptTimes = ["created_at", "last_used"]

/** The issuer as the document holds it. */
const StoredIssuer = CredentialIssuer.pipe(Schema.encodeKeys({ tenantId: "tenant_id" }))
const issuerText = Schema.encodeSync(Schema.fromJsonString(StoredIssuer))

// ---------------------------------------------------------------------------------------------------------------------
// Reading
// ---------------------------------------------------------------------------------------------------------------------

const text = Schema.decodeUnknownOption(Schema.String)
const credentialType = Schema.decodeUnknownOption(CredentialType)
const issuer = Schema.decodeUnknownOption(StoredIssuer)
const flag = Schema.decodeUnknownOption(Schema.Boolean)
const texts = Schema.decodeUnknownOption(Schema.Array(Schema.String))
const timestamp = (input: unknown) => Option.flatMap(text(input), parseTimestamp)

/** The values of an object that was parsed. */
type Fields = Readonly<Record<PropertyKey, unknown>>

/** A field that may be absent or null, and otherwise has to decode. Fails with the name of the field. */
const optionalField = <A, B>(
  fields: Fields,
  name: string,
  decode: (input: unknown) => Option.Option<A>,
  absent: B
): Result.Result<A | B, string> => {
  const value = fields[name]
  if (value === undefined || value === null) return Result.succeed(absent)
  return Result.fromOption(decode(value), () => `its field ${name} has an unexpected value`)
}

/** The names of the fields as the parser has them, once for all documents: one that is cut out of a text keeps all of it in memory. */
const namesOf = (fields: Fields): (name: string) => string => {
  const names = new Map(Object.keys(fields).map((name) => [name, name]))
  return (name) => names.get(name) ?? name
}

const extraOf = (fields: Fields, members: Members, known: ReadonlySet<string>): Extra | undefined => {
  const extra = new Map<string, Redacted.Redacted<string>>()
  const nameOf = namesOf(fields)
  for (const [name, raw] of members) {
    if (!known.has(name)) extra.set(nameOf(name), Redacted.make(detached(raw)))
  }
  return extra.size === 0 ? undefined : extra
}

const decodeKey = (name: string, fields: Fields, members: Members): Result.Result<CredentialKey, string> =>
  Result.gen(function*() {
    const value = yield* optionalField(fields, "value", text, undefined)
    if (value === undefined) return yield* Result.fail("one of its keys has no value")
    const expiresAt = yield* optionalField(fields, "expires_at", timestamp, undefined)
    return new CredentialKey({
      name,
      value: Redacted.make(value),
      expiresAt,
      extra: extraOf(fields, members, modelledInKey)
    })
  })

/** Decodes a document. Fails with what is wrong, without quoting any of its content. */
export const decodeDocument = (document: string): Result.Result<HiveDocument, string> =>
  Result.gen(function*() {
    const fields = parseJson(document)
    const members = fields === undefined ? undefined : membersOf(document)
    if (!Predicate.isObject(fields) || members === undefined) {
      return yield* Result.fail("its content is not a JSON object")
    }
    const namespace = members.get("_namespace")
    members.delete("_namespace")
    const id = yield* optionalField(fields, "id", text, undefined)
    if (id === undefined) return yield* Result.fail("its content has no id")
    const keyFields = fields.keys === undefined ? {} : fields.keys
    const keyTexts = membersOf(members.get("keys") ?? "{}")
    if (!Predicate.isObject(keyFields) || keyTexts === undefined) {
      return yield* Result.fail("its keys are not a JSON object")
    }
    const keys = new Map<string, CredentialKey>()
    const nameOf = namesOf(keyFields)
    for (const [cutName, keyText] of keyTexts) {
      const name = nameOf(cutName)
      const inKey = membersOf(keyText)
      const fieldsOfKey = keyFields[name]
      if (!Predicate.isObject(fieldsOfKey) || inKey === undefined) {
        return yield* Result.fail("one of its keys is not a JSON object")
      }
      keys.set(name, yield* decodeKey(name, fieldsOfKey, inKey))
    }
    const credential = new Credential({
      id,
      type: yield* optionalField(fields, "credential_type", credentialType, "api_key" as const),
      keys,
      providerId: yield* optionalField(fields, "provider_id", text, undefined),
      // only affects when the token is refreshed: not worth refusing the credential for
      lastRefreshed: Result.getOrUndefined(optionalField(fields, "last_refreshed", timestamp, undefined)),
      autoRefresh: yield* optionalField(fields, "auto_refresh", flag, false),
      description: yield* optionalField(fields, "description", text, ""),
      tags: yield* optionalField(fields, "tags", texts, []),
      issuer: yield* optionalField(fields, "_issuer", issuer, undefined),
      extra: extraOf(fields, members, modelled)
    })
    return { credential, namespace: namespace === undefined ? undefined : parseJson(namespace), members, keyTexts }
  })

/** The JSON text of the document, naming this namespace, if any. */
export const documentText = ({ members }: HiveDocument, namespace?: string): string =>
  renderMembers(namespace === undefined ? members : naming(new Map(members), namespace))

const naming = (members: Map<string, string>, namespace: string) => members.set("_namespace", JSON.stringify(namespace))

/** When the document was last written; `undefined` when it does not tell. */
export const writtenAt = ({ members }: HiveDocument): DateTime.Utc | undefined =>
  Option.getOrUndefined(timestamp(parseJson(members.get("updated_at") ?? "null")))

/** The tenant that the document names, which should be an id; `undefined` when it names none, as Hive's documents. */
export const tenantOf = ({ members }: HiveDocument): unknown => {
  const owner = members.get("_tenant_id")
  return owner === undefined ? undefined : parseJson(owner) ?? null
}

export const ofAnotherTenant = "it belongs to another tenant"

/** Refuses the document of another tenant. One that names no tenant belongs to any. */
export const checkTenant =
  (tenantId: string | undefined) => (stored: HiveDocument): Result.Result<HiveDocument, string> => {
    const owner = tenantOf(stored)
    return tenantId === undefined || owner === undefined || owner === tenantId
      ? Result.succeed(stored)
      : Result.fail(ofAnotherTenant)
  }

export const ofAnotherNamespace = "it belongs to another namespace; aden-creds migrate copies it"
const ofADatabase = "it belongs to a database; aden-creds migrate copies it"

/**
 * Refuses the document of another namespace, and in files (`undefined`) that of a database: whoever can write there could have copied it.
 * One that names no namespace, of an older version, belongs to any.
 */
export const checkNamespace =
  (namespace: string | undefined) => (stored: HiveDocument): Result.Result<HiveDocument, string> =>
    stored.namespace === undefined || stored.namespace === namespace
      ? Result.succeed(stored)
      : Result.fail(namespace === undefined ? ofADatabase : ofAnotherNamespace)

// ---------------------------------------------------------------------------------------------------------------------
// Writing
// ---------------------------------------------------------------------------------------------------------------------

const withoutZone = /^"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?"$/

/** Adds the zone to a time without one. Hive sometimes writes such times, and then cannot read the credential any more. */
const addZone = (members: Map<string, string>, name: string): void => {
  const raw = members.get(name)
  if (raw !== undefined && withoutZone.test(raw)) members.set(name, `${raw.slice(0, -1)}Z"`)
}

/** The JSON text of a time. RFC 3339 ends with the year 9999: a later time would make the document unreadable. */
const timeText = (time: DateTime.Utc | undefined): Result.Result<string, string> => {
  if (time === undefined) return Result.succeed("null")
  const text = formatTimestamp(time)
  return Option.isSome(parseTimestamp(text))
    ? Result.succeed(JSON.stringify(text))
    : Result.fail("one of its times is not between the years 0 and 9999")
}

const sameTime = (a: DateTime.Utc | undefined, b: DateTime.Utc | undefined): boolean =>
  a === undefined || b === undefined ? a === b : DateTime.Equivalence(a, b)

const sameTexts = (a: ReadonlyArray<string>, b: ReadonlyArray<string>): boolean =>
  a.length === b.length && a.every((item, index) => item === b[index])

const sameIssuer = (a: CredentialIssuer | undefined, b: CredentialIssuer): boolean =>
  a?.name === b.name && a.tenantId === b.tenantId

/** Overlays the fields of `extra`. Fails when one is not JSON: it could break the document, or inject a field. */
const overlayExtra = (
  members: Map<string, string>,
  extra: Extra | undefined,
  known: ReadonlySet<string>
): Result.Result<void, string> => {
  for (const [name, redacted] of extra ?? []) {
    const raw = Redacted.value(redacted)
    if (known.has(name) || members.get(name) === raw) continue
    if (parseJson(raw) === undefined) return Result.fail(`the extra field ${JSON.stringify(name)} is not JSON`)
    members.set(name, raw)
  }
  return Result.void
}

const encodeKey = (
  name: string,
  key: CredentialKey,
  storedKey: CredentialKey | undefined,
  storedText: string | undefined
): Result.Result<string, string> =>
  Result.gen(function*() {
    const members = new Map(storedText === undefined ? undefined : parseMembers(storedText))
    if (!members.has("name")) members.set("name", JSON.stringify(name))
    const value = Redacted.value(key.value)
    if (storedKey === undefined || Redacted.value(storedKey.value) !== value) {
      members.set("value", JSON.stringify(value))
    }
    if (storedKey === undefined || !sameTime(storedKey.expiresAt, key.expiresAt)) {
      members.set("expires_at", yield* timeText(key.expiresAt))
    }
    addZone(members, "expires_at")
    if (storedKey === undefined) members.set("metadata", "{}")
    yield* overlayExtra(members, key.extra, modelledInKey)
    return rewriteMembers(members, storedText)
  })

/**
 * Encodes a credential over the stored document, if any. Unknown fields of the stored document are kept; keys that the credential
 * does not have are dropped. With `tenantId`, the document names its tenant, and with `namespace` the namespace of its database.
 */
export const encodeDocument = (
  credential: Credential,
  now: DateTime.Utc,
  stored: HiveDocument | undefined,
  { namespace, tenantId }: {
    readonly tenantId?: string | undefined
    readonly namespace?: string | undefined
  } = {}
): Result.Result<string, string> =>
  Result.gen(function*() {
    const members = new Map(stored?.members)
    const before = stored?.credential
    if (before === undefined) members.set("id", JSON.stringify(credential.id))
    if (before?.type !== credential.type) members.set("credential_type", JSON.stringify(credential.type))
    const keys = new Map<string, string>()
    for (const [name, key] of credential.keys) {
      keys.set(name, yield* encodeKey(name, key, before?.keys.get(name), stored?.keyTexts.get(name)))
    }
    members.set("keys", rewriteMembers(keys, members.get("keys")))
    if (before === undefined || before.providerId !== credential.providerId) {
      members.set("provider_id", JSON.stringify(credential.providerId ?? null))
    }
    if (before === undefined || !sameTime(before.lastRefreshed, credential.lastRefreshed)) {
      members.set("last_refreshed", yield* timeText(credential.lastRefreshed))
    }
    if (before?.autoRefresh !== credential.autoRefresh) {
      members.set("auto_refresh", JSON.stringify(credential.autoRefresh))
    }
    if (before === undefined) {
      members.set("last_used", "null").set("use_count", "0").set("created_at", yield* timeText(now))
    }
    if (before?.description !== credential.description) {
      members.set("description", JSON.stringify(credential.description))
    }
    if (before === undefined || !sameTexts(before.tags, credential.tags)) {
      members.set("tags", JSON.stringify(credential.tags))
    }
    if (credential.issuer === undefined) members.delete("_issuer")
    else if (!sameIssuer(before?.issuer, credential.issuer)) members.set("_issuer", issuerText(credential.issuer))
    if (tenantId !== undefined) members.set("_tenant_id", JSON.stringify(tenantId))
    yield* overlayExtra(members, credential.extra, modelled)
    addZone(members, "last_refreshed")
    for (const name of keptTimes) {
      addZone(members, name)
    }
    members.set("updated_at", yield* timeText(now))
    return renderMembers(namespace === undefined ? members : naming(members, namespace))
  })
