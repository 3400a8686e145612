/**
 * The model: what a credential is, what it is called, and how it is found.
 *
 * A credential holds named keys. Aden's are written as Hive writes them: `access_token` with its expiry, `scope`, and keys that
 * begin with `_` for what is not secret but belongs to the entry (`_aden_managed`, `_integration_type`, `_alias`,
 * `_identity_*`).
 *
 * @since 0.1.0
 */
import type * as DateTime from "effect/DateTime"
import * as Equal from "effect/Equal"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { cleanText, isShown, shownName } from "../util/sanitize.ts"

/**
 * The kinds of credential, as Hive names them in its files.
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
 * `extra` holds what was stored beside the value and is not known here (Hive's `metadata` among it): field name to the JSON
 * text it was written as, so that it is written back unchanged.
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
 * Who an account belongs to, as far as Aden said: read from the `_identity_*` keys.
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
  /** The first of e-mail, user name, workspace and account id that is known, else `unknown`. */
  get label(): string {
    return this.email ?? this.username ?? this.workspace ?? this.accountId ?? "unknown"
  }
}

const defaultKeyNames = ["value", "api_key", "access_token"]

/**
 * A credential: named keys under one id. Values are `Redacted`; logging or serialising a credential shows none of them.
 *
 * `providerId` names the provider that renews it (`aden_sync` by default) and is `undefined` for a person's own credential.
 * `lastRefreshed` is when this token was first received. `extra` holds fields of the stored document that are not known
 * here, as the JSON text they were.
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
  extra: Schema.optional(Schema.ReadonlyMap(Schema.String, Schema.Redacted(Schema.String)))
}) {
  /**
   * An OAuth credential from an access token. `expiresAt` is left out for a token that does not expire; `provider` and
   * `alias` make it reachable as `provider` and `provider:alias`.
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
   * A credential that is one API key without expiry, under the key name `api_key`.
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
   * The key that `token` answers: `access_token` for OAuth and bearer credentials; for the others `value`, `api_key`,
   * `access_token` or else the first that is not internal. A bearer credential without `access_token`, which Hive writes as
   * `token`, is answered like the others.
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
   * The integration's kind, such as `hubspot`, as a person may read it: like all texts here that come from keys, without control
   * and invisible characters, and cut at 500. Refs are compared with the text as it is, see {@link accountOf}.
   */
  get integrationType(): string | undefined {
    return shownName(plainText(this, "_integration_type"))
  }

  /** The account's name within its provider. */
  get alias(): string | undefined {
    return shownName(plainText(this, "_alias"))
  }

  /** Whether the entry was written from what Aden answered. */
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
   * This credential with what a provider answered for it. The answered keys replace those of the same name, expiry
   * included (an old expiry is never inherited); all else is kept: keys that the answer does not name (scope, alias, a
   * refresh token of a person's own), description, tags and unknown fields. A provider's name that the id gives by itself
   * tells nothing, and does not replace another.
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
      autoRefresh: answer.autoRefresh
    })
  }

  /** Whether both hold the same default token with the same expiry: a token's life runs from its first receipt. */
  holdsTokenOf(other: Credential): boolean {
    const [mine, theirs] = [this.defaultKey, other.defaultKey]
    return mine !== undefined && theirs !== undefined && Redacted.value(mine.value) === Redacted.value(theirs.value) &&
      Equal.equals(mine.expiresAt, theirs.expiresAt)
  }
}

/** The text of a key that is not secret, as it is. */
const plainText = ({ keys }: Credential, name: string): string | undefined => {
  const key = keys.get(name)
  const value = key === undefined ? "" : Redacted.value(key.value)
  return value === "" ? undefined : value
}

/** Keys for text that is not secret, for each value that is present. */
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
 * What a ref can be resolved against: an id with the provider and alias it belongs to. Built from credentials at hand or
 * from Aden's list.
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
 * What a ref means: one id, nothing, or several accounts of which the ref names none.
 *
 * @since 0.1.0
 * @category refs
 */
export type CredentialResolution =
  | { readonly _tag: "Found"; readonly id: string }
  | { readonly _tag: "Missing" }
  | { readonly _tag: "Ambiguous"; readonly choices: ReadonlyArray<string> }

/**
 * Resolves a ref: an exact id wins; then the provider with one account; then `provider:alias`. A provider with several
 * accounts, or an alias that several share, is `Ambiguous`, never a silent pick; `choices` are refs that name one each.
 *
 * @since 0.1.0
 * @category refs
 */
export const resolveRef = (ref: CredentialRef, accounts: Iterable<CredentialAccount>): CredentialResolution => {
  const candidates: Array<CredentialAccount> = []
  for (const account of accounts) {
    if (account.id === ref) return { _tag: "Found", id: ref }
    if (account.provider === undefined) continue
    if (account.provider === ref || (account.alias !== undefined && `${account.provider}:${account.alias}` === ref)) {
      candidates.push(account)
    }
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
 * The account a stored credential stands for: what refs are compared with, which is the text as it is stored. To show it, read
 * `integrationType` and `alias`.
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
 * An integration as a provider lists it. `status` is the provider's word.
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
 * What the provider says of a token. An invalid token is an answer, not an error; `reason` says why, and
 * `reauthorizationUrl` is there when a person has to authorize again and the provider named a place.
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
 * The provider that an id names by itself, where nobody says otherwise: the part before its first `:`, else the id.
 *
 * @internal
 */
export const defaultProvider = (id: string): string => {
  const colon = id.indexOf(":")
  return colon > 0 ? id.slice(0, colon) : id
}
