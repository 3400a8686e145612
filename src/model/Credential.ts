/**
 * The model: what a credential is, how a program refers to it, and how a ref is resolved.
 *
 * A credential holds named keys. Aden's have the names that Hive uses: `access_token` with its expiry, `scope`, and names with a
 * leading `_` for metadata that is not secret (`_aden_managed`, `_integration_type`, `_alias`, `_identity_*`).
 *
 * @since 0.1.0
 */
import type * as DateTime from "effect/DateTime"
import * as Equal from "effect/Equal"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { cleanText, isShown, shownName } from "../util/sanitize.ts"

/**
 * The kinds of credential, by the names in Hive's files.
 *
 * @since 0.1.0
 * @category models
 */
export const CredentialType = Schema.Literals(["oauth2", "bearer_token", "api_key", "basic_auth", "custom"])

/**
 * @since 0.1.0
 * @category models
 */
export type CredentialType = typeof CredentialType.Type

/**
 * One named value of a credential. `expiresAt` is `undefined` for a value that does not expire.
 *
 * `extra` holds the stored fields of the key that this package does not know, such as Hive's `metadata`: field name to JSON text,
 * written back unchanged.
 *
 * @since 0.1.0
 * @category models
 */
export class CredentialKey extends Schema.Class<CredentialKey>("aden-credentials/CredentialKey")({
  name: Schema.String,
  value: Schema.Redacted(Schema.String),
  expiresAt: Schema.optional(Schema.DateTimeUtc),
  extra: Schema.optional(Schema.ReadonlyMap(Schema.String, Schema.Redacted(Schema.String)))
}) {}

/**
 * Who an account belongs to, as far as Aden told: read from the `_identity_*` keys.
 *
 * @since 0.1.0
 * @category models
 */
export class CredentialIdentity extends Schema.Class<CredentialIdentity>("aden-credentials/CredentialIdentity")({
  email: Schema.optional(Schema.String),
  username: Schema.optional(Schema.String),
  workspace: Schema.optional(Schema.String),
  accountId: Schema.optional(Schema.String)
}) {
  /** The first of e-mail, user name, workspace and account id that is known; `unknown` when none is. */
  get label(): string {
    return this.email ?? this.username ?? this.workspace ?? this.accountId ?? "unknown"
  }
}

/**
 * Who issued a credential: the Aden server (by default its URL, without query) and the tenant there, as far as it is known.
 *
 * @since 0.1.0
 * @category models
 */
export const CredentialIssuer = Schema.Struct({
  name: Schema.String,
  tenantId: Schema.optional(Schema.String)
})

/**
 * @since 0.1.0
 * @category models
 */
export type CredentialIssuer = typeof CredentialIssuer.Type

const defaultKeyNames = ["value", "api_key", "access_token"]

/**
 * A credential: named keys under one id. Values are `Redacted`; logging or serialising a credential shows none of them.
 *
 * `providerId` names the provider that refreshes it (`aden_sync` by default); it is `undefined` for a credential of your own.
 * `lastRefreshed` is when this token was first received. `issuer` is who issued it; `undefined` for a credential of your own, for one of
 * Hive's, and for one that an older version stored: these belong to every issuer. `extra` holds the fields of the stored document that this package does
 * not know, as JSON text.
 *
 * @since 0.1.0
 * @category models
 */
export class Credential extends Schema.Class<Credential>("aden-credentials/Credential")({
  id: Schema.String,
  type: CredentialType,
  keys: Schema.ReadonlyMap(Schema.String, CredentialKey),
  providerId: Schema.optional(Schema.String),
  lastRefreshed: Schema.optional(Schema.DateTimeUtc),
  autoRefresh: Schema.Boolean,
  description: Schema.String,
  tags: Schema.Array(Schema.String),
  issuer: Schema.optional(CredentialIssuer),
  extra: Schema.optional(Schema.ReadonlyMap(Schema.String, Schema.Redacted(Schema.String)))
}) {
  /**
   * An OAuth credential from an access token. Leave `expiresAt` out for a token that does not expire. With `provider` and
   * `alias`, the refs `provider` and `provider:alias` resolve to it.
   *
   * @example
   * ```ts
   * import { Credential } from "aden-credentials"
   * import { Redacted } from "effect"
   *
   * const credential = Credential.fromAccessToken({
   *   id: "hubspot-eu",
   *   accessToken: Redacted.make("CJTFwvnuLxIFAgEY"),
   *   provider: "hubspot",
   *   alias: "EU portal"
   * })
   * ```
   */
  static fromAccessToken(options: {
    readonly id: string
    readonly accessToken: Redacted.Redacted<string>
    readonly expiresAt?: DateTime.Utc | undefined
    readonly provider?: string | undefined
    readonly alias?: string | undefined
  }): Credential {
    return Credential.fromKeys("oauth2", options.id, [
      new CredentialKey({ name: "access_token", value: options.accessToken, expiresAt: options.expiresAt }),
      ...plainKeys({ _integration_type: options.provider, _alias: options.alias })
    ])
  }

  /**
   * A credential with one API key that does not expire, under the key name `api_key`.
   *
   * @example
   * ```ts
   * import { Credential, MemoryStorage } from "aden-credentials"
   * import { Redacted } from "effect"
   *
   * const Storage = MemoryStorage.layer([
   *   Credential.fromApiKey({ id: "weather", apiKey: Redacted.make("an-api-key") })
   * ])
   * ```
   */
  static fromApiKey(options: { readonly id: string; readonly apiKey: Redacted.Redacted<string> }): Credential {
    return Credential.fromKeys("api_key", options.id, [new CredentialKey({ name: "api_key", value: options.apiKey })])
  }

  private static fromKeys(type: CredentialType, id: string, keys: ReadonlyArray<CredentialKey>): Credential {
    return new Credential({
      id,
      type,
      keys: new Map(keys.map((key) => [key.name, key])),
      autoRefresh: false,
      description: "",
      tags: []
    })
  }

  /**
   * The key that `token` returns. For OAuth and bearer credentials it is `access_token`; for the others the first present of
   * `value`, `api_key`, `access_token`, else the first key without a leading `_`. A bearer credential without `access_token`
   * (Hive calls the key `token`) is treated like the others.
   */
  get defaultKey(): CredentialKey | undefined {
    if (this.type === "oauth2") return this.keys.get("access_token")
    if (this.type === "bearer_token" && this.keys.has("access_token")) return this.keys.get("access_token")
    for (const name of defaultKeyNames) {
      const key = this.keys.get(name)
      if (key !== undefined) return key
    }
    for (const key of this.keys.values()) {
      if (!key.name.startsWith("_")) return key
    }
    return undefined
  }

  /** When the default key expires; `undefined` when it does not. */
  get expiresAt(): DateTime.Utc | undefined {
    return this.defaultKey?.expiresAt
  }

  /**
   * The kind of integration, such as `hubspot`, made safe to show: like all texts here that come from keys, it has no control or
   * invisible characters and at most 500 code units. Refs are compared with the stored text, see {@link accountOf}.
   */
  get integrationType(): string | undefined {
    return shownName(plainText(this, "_integration_type"))
  }

  /** The account's name within its provider. */
  get alias(): string | undefined {
    return shownName(plainText(this, "_alias"))
  }

  /** Whether the entry was written from an answer of Aden's. */
  get isAdenManaged(): boolean {
    return plainText(this, "_aden_managed") === "true"
  }

  /** The scopes granted, empty when unknown. */
  get scopes(): ReadonlyArray<string> {
    return plainText(this, "scope")?.split(" ").map(cleanText) ?? []
  }

  /** Who the account belongs to, as far as known. */
  get identity(): CredentialIdentity {
    return new CredentialIdentity({
      email: shownName(plainText(this, "_identity_email")),
      username: shownName(plainText(this, "_identity_username")),
      workspace: shownName(plainText(this, "_identity_workspace")),
      accountId: shownName(plainText(this, "_identity_account_id"))
    })
  }

  /**
   * This credential, updated with a provider's answer. The answered keys replace those of the same name, expiry included: an old
   * expiry is never inherited. Everything else is kept: keys that the answer does not name (scope, alias, a refresh token you
   * added), description, tags and unknown fields. A provider name that was only derived from the id does not replace a known one.
   */
  renewedBy(answer: Credential): Credential {
    const keys = new Map(this.keys)
    const isTypeKnown = this.integrationType !== undefined && answer.integrationType === defaultProvider(this.id)
    for (const [name, key] of answer.keys) {
      if (name === "_integration_type" && isTypeKnown) continue
      keys.set(name, new CredentialKey({ ...key, extra: key.extra ?? this.keys.get(name)?.extra }))
    }
    return new Credential({
      ...this,
      type: answer.type,
      keys,
      providerId: answer.providerId,
      lastRefreshed: this.holdsTokenOf(answer) ? this.lastRefreshed ?? answer.lastRefreshed : answer.lastRefreshed,
      autoRefresh: answer.autoRefresh,
      issuer: answer.issuer ?? this.issuer
    })
  }

  /** Whether both hold the same default token with the same expiry: a token's lifetime counts from when it was first received. */
  holdsTokenOf(other: Credential): boolean {
    const [mine, theirs] = [this.defaultKey, other.defaultKey]
    return mine !== undefined && theirs !== undefined && Redacted.value(mine.value) === Redacted.value(theirs.value) &&
      Equal.equals(mine.expiresAt, theirs.expiresAt)
  }
}

/** The stored text of a key that is not secret. */
const plainText = ({ keys }: Credential, name: string): string | undefined => {
  const key = keys.get(name)
  const value = key === undefined ? "" : Redacted.value(key.value)
  return value === "" ? undefined : value
}

/** A key for each value that is present and not empty. */
const plainKeys = (values: Readonly<Record<string, string | undefined>>): ReadonlyArray<CredentialKey> =>
  Object.entries(values).flatMap(([name, value]) =>
    value === undefined || value === "" ? [] : [new CredentialKey({ name, value: Redacted.make(value) })]
  )

/**
 * How a program names a credential: an exact id, a provider name (`hubspot`), or `provider:alias` (`google:Timothy`).
 *
 * @since 0.1.0
 * @category refs
 */
export type CredentialRef = string

/**
 * What a ref is resolved against: an id with its provider and alias. Built from stored credentials or from Aden's list.
 *
 * @since 0.1.0
 * @category refs
 */
export interface CredentialAccount {
  readonly id: string
  readonly provider: string | undefined
  readonly alias: string | undefined
}

/**
 * What a ref resolves to: one id, nothing, or several accounts that match it equally.
 *
 * @since 0.1.0
 * @category refs
 */
export type CredentialResolution =
  | { readonly _tag: "Found"; readonly id: string }
  | { readonly _tag: "Missing" }
  | { readonly _tag: "Ambiguous"; readonly choices: ReadonlyArray<string> }

/**
 * Whether a ref fits an account: its id, its provider, or `provider:alias`.
 *
 * @internal
 */
export const isNamed = (ref: CredentialRef, { alias, id, provider }: CredentialAccount): boolean =>
  id === ref ||
  (provider !== undefined && ref.startsWith(provider) &&
    (ref.length === provider.length || (alias !== undefined && ref === `${provider}:${alias}`)))

/**
 * Resolves a ref. An exact id wins; otherwise the ref is a provider with one account, or `provider:alias`. A provider with
 * several accounts, or an alias that several share, is `Ambiguous`, never a silent pick; each of `choices` is a ref that resolves
 * to one account.
 *
 * @example
 * ```ts
 * import { resolveRef } from "aden-credentials"
 *
 * const accounts = [
 *   { id: "a1", provider: "google", alias: "Timothy" },
 *   { id: "b2", provider: "google", alias: "Ann" }
 * ]
 * resolveRef("google:Ann", accounts) // { _tag: "Found", id: "b2" }
 * resolveRef("google", accounts) // { _tag: "Ambiguous", choices: ["google:Ann", "google:Timothy"] }
 * ```
 *
 * @since 0.1.0
 * @category refs
 */
export const resolveRef = (ref: CredentialRef, accounts: Iterable<CredentialAccount>): CredentialResolution => {
  const candidates: Array<CredentialAccount> = []
  for (const account of accounts) {
    if (account.id === ref) return { _tag: "Found", id: ref }
    if (isNamed(ref, account)) candidates.push(account)
  }
  const [first, second] = candidates
  if (first === undefined) return { _tag: "Missing" }
  if (second === undefined) return { _tag: "Found", id: first.id }
  const refs = candidates.map(({ alias, id, provider }) =>
    isShown(provider) && isShown(alias) ? `${provider}:${alias}` : id
  )
  return {
    _tag: "Ambiguous",
    choices: candidates.map((account, index) =>
      refs.indexOf(refs[index] ?? "") === refs.lastIndexOf(refs[index] ?? "") ? refs[index] ?? account.id : account.id
    ).toSorted()
  }
}

/**
 * The account of a stored credential, with provider and alias as they are stored: refs are compared with these. To show them to
 * a person, read `integrationType` and `alias`.
 *
 * @since 0.1.0
 * @category refs
 */
export const accountOf = (credential: Credential): CredentialAccount => ({
  id: credential.id,
  provider: plainText(credential, "_integration_type"),
  alias: plainText(credential, "_alias")
})

/**
 * An integration as a provider lists it, with the status that the provider gives.
 *
 * @since 0.1.0
 * @category models
 */
export interface ProviderAccount extends CredentialAccount {
  readonly status: "active" | "expired" | "requires_reauth" | "unknown"
  readonly email: string | undefined
  readonly expiresAt: DateTime.Utc | undefined
}

/**
 * Whether a token is valid, according to the provider. An invalid token is an answer, not an error; `reason` says why.
 * `reauthorizationUrl` is set when a person has to authorize again and the provider gave a URL for it.
 *
 * @since 0.1.0
 * @category models
 */
export interface CredentialValidation {
  readonly valid: boolean
  readonly reason: string | undefined
  readonly expiresAt: DateTime.Utc | undefined
  readonly requiresReauthorization: boolean
  readonly reauthorizationUrl: string | undefined
}

/**
 * The provider derived from an id, for when none is given: the part before the first `:`, else the whole id.
 *
 * @internal
 */
export const defaultProvider = (id: string): string => {
  const colon = id.indexOf(":")
  return colon > 0 ? id.slice(0, colon) : id
}

/**
 * Whether two issuers can be the same. A tenant that is not known can be any.
 *
 * @internal
 */
export const isSameIssuer = (one: CredentialIssuer, other: CredentialIssuer): boolean =>
  one.name === other.name &&
  (one.tenantId === undefined || other.tenantId === undefined || one.tenantId === other.tenantId)

/**
 * An issuer, for people.
 *
 * @internal
 */
export const issuerText = ({ name, tenantId }: CredentialIssuer): string =>
  cleanText(tenantId === undefined ? name : `${name}, tenant ${tenantId}`)
