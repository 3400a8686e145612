/**
 * Turns the decoded bodies of Aden's answers into values, with the defaults of docs/contract.md.
 */
import * as DateTime from "effect/DateTime"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type { AdenUnavailable } from "../../errors/AdenError.ts"
import type { CredentialValidation, ProviderAccount } from "../../model/Credential.ts"
import { pageUrl } from "../../util/httpSyntax.ts"
import { cleanMessage, cleanText, isClean, isShown } from "../../util/sanitize.ts"
import { isZeroTime } from "../../util/Timestamp.ts"
import type { CredentialAnswer, HealthAnswer, IntegrationListEnvelope, ValidationAnswer } from "./AdenApi.ts"
import { IntegrationId, IntegrationItem } from "./AdenApi.ts"
import type { Answer, RequestContext } from "./failures.ts"
import { protocolError } from "./failures.ts"
import { isPartial } from "./pages.ts"

const isIntegrationId = Schema.is(IntegrationId)

/** Whether an id can be a path segment. Dot segments cannot: URLs resolve them even percent-encoded (`%2e%2e`). */
export const fitsPath = (id: string): boolean => isIntegrationId(id) && id !== "." && id !== ".."

/** The credential in an answer. A credential of another integration than `id` is refused. */
export const credentialOf = (id: string, body: typeof CredentialAnswer.Type, answer: Answer) => {
  const answeredId = emptyAsAbsent(body.integration_id)
  if (answeredId !== undefined && answeredId !== id) {
    return Result.fail(
      protocolError(id, `an answer for another integration, ${JSON.stringify(answeredId)}`, { isTransient: false })
    )
  }
  const email = emptyAsAbsent(body.email)
  const metadata = new Map<string, string>()
  for (const [name, value] of Object.entries(body.metadata ?? {})) {
    if (typeof value === "string" && value !== "" && !isDroppedMetadata(name)) metadata.set(name, cleanText(value))
  }
  if (email !== undefined && !metadata.has("email")) metadata.set("email", email)
  return Result.succeed({
    id,
    integrationType: providerOf(id, body),
    alias: emptyAsAbsent(body.alias),
    email,
    accessToken: body.access_token,
    tokenType: emptyAsAbsent(body.token_type) ?? "Bearer",
    expiresAt: expiryOf(body, answer),
    scopes: body.scopes ?? [],
    metadata
  })
}

/** Metadata that is dropped: names that could pollute a prototype, and refresh tokens, which are never stored. */
const isDroppedMetadata = (name: string): boolean =>
  name === "" || name === "__proto__" || name === "constructor" || name === "prototype" || !isClean(name) ||
  /refresh[-_]?token/i.test(name)

interface MalformedItem {
  readonly id: string | undefined
  readonly detail: string
}

/** The integrations of a list, and the items that cannot be read. A list of another tenant than `tenantId` is refused. */
export const integrationsOf = (
  body: typeof IntegrationListEnvelope.Type,
  answer: Answer,
  tenantId: string | undefined
): Result.Result<
  {
    readonly accounts: ReadonlyArray<ProviderAccount>
    readonly malformed: ReadonlyArray<MalformedItem>
    readonly isIncomplete: boolean
    readonly zeroExpiries: number
    /** The tenant that the list names. */
    readonly tenantId: string | undefined
  },
  AdenUnavailable
> => {
  const answeredTenant = emptyAsAbsent(body.tenant_id)
  if (tenantId !== undefined && answeredTenant !== undefined && answeredTenant !== tenantId) {
    return Result.fail(
      protocolError(undefined, `a list for another tenant, ${JSON.stringify(answeredTenant)}`, { isTransient: false })
    )
  }
  const accounts = new Map<string, ProviderAccount>()
  const malformed: Array<MalformedItem> = []
  let zeroExpiries = 0
  for (const item of body.integrations) {
    const result = Schema.decodeUnknownResult(IntegrationItem)(item)
    if (Result.isFailure(result)) {
      const id = Predicate.hasProperty(item, "integration_id") && typeof item.integration_id === "string"
        ? cleanText(item.integration_id)
        : undefined
      malformed.push({ id, detail: cleanText(result.failure.message.replace(/\s+/g, " ")) })
      continue
    }
    const integration = result.success
    const id = integration.integration_id
    if (hasZeroExpiry(integration, answer)) zeroExpiries++
    if (!fitsPath(id)) malformed.push({ id, detail: "an id that cannot be part of a URL path" })
    else if (accounts.has(id)) malformed.push({ id, detail: "listed twice" })
    else {
      accounts.set(id, {
        id,
        provider: providerOf(id, integration),
        alias: emptyAsAbsent(integration.alias),
        email: emptyAsAbsent(integration.email),
        status: statusOf(integration.status),
        expiresAt: expiryOf(integration, answer)
      })
    }
  }
  return Result.succeed({
    accounts: Array.from(accounts.values()),
    malformed,
    isIncomplete: isPartial(body, answer),
    zeroExpiries,
    tenantId: isShown(answeredTenant) ? answeredTenant : undefined
  })
}

interface Expiring {
  readonly expires_at?: DateTime.Utc | null | undefined
}

/** A zero value that is more recent, in ms, is a time: the clock of tests begins at the Unix epoch. */
const oneYear = 365 * 86_400_000

/** Whether the expiry is the zero value of a time, which stands for none. */
export const hasZeroExpiry = ({ expires_at }: Expiring, { receivedAt }: Pick<Answer, "receivedAt">): boolean =>
  expires_at != null && isZeroTime(expires_at) && receivedAt - DateTime.toEpochMillis(expires_at) > oneYear

const expiryOf = (body: Expiring, answer: Answer): DateTime.Utc | undefined =>
  hasZeroExpiry(body, answer) ? undefined : body.expires_at ?? undefined

const statusOf = (status: string | null | undefined): ProviderAccount["status"] =>
  status === "active" || status === "expired" || status === "requires_reauth" ? status : "unknown"

export const validationOf = (
  body: typeof ValidationAnswer.Type,
  answer: Answer,
  context: RequestContext
): CredentialValidation => {
  const reason = emptyAsAbsent(body.reason) ?? emptyAsAbsent(body.error) ??
    (body.valid ? undefined : emptyAsAbsent(body.status))
  const seconds = body.expires_in_seconds ?? undefined
  const requiresReauthorization = !body.valid &&
    (body.requires_reauthorization === true || body.status === "requires_reauth")
  return {
    valid: body.valid,
    reason: reason === undefined ? undefined : cleanMessage(reason, context.secrets),
    expiresAt: expiryOf(body, answer) ?? (seconds === undefined
      ? undefined
      : Option.getOrUndefined(DateTime.make(answer.receivedAt + seconds * 1000))),
    requiresReauthorization,
    reauthorizationUrl: requiresReauthorization ? pageUrl(body.reauthorization_url) : undefined
  }
}

export const healthOf = (body: typeof HealthAnswer.Type) => ({
  status: body.status,
  version: emptyAsAbsent(body.version),
  timestamp: body.timestamp ?? undefined
})

const providerOf = (
  id: string,
  body: { readonly integration_type?: string | null | undefined; readonly provider?: string | null | undefined }
): string => {
  const named = emptyAsAbsent(body.integration_type) ?? emptyAsAbsent(body.provider)
  if (named !== undefined) return named
  const colon = id.indexOf(":")
  return colon > 0 ? id.slice(0, colon) : id
}

const emptyAsAbsent = (text: string | null | undefined): string | undefined =>
  text === null || text === "" ? undefined : text
