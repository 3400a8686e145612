/**
 * Valid OAuth tokens for agents: fetched from an Aden server, cached encrypted on disk, refreshed in time, available when Aden
 * is not.
 *
 * @since 0.1.0
 */
export {
  AccessToken,
  AdenApi,
  AgentAuthorization,
  AgentTenant,
  CredentialAnswer,
  CredentialsGroup,
  ErrorAnswer,
  ForbiddenAnswer,
  HealthAnswer,
  HealthGroup,
  IntegrationId,
  IntegrationItem,
  IntegrationListAnswer,
  IntegrationListEnvelope,
  IntegrationNotFoundAnswer,
  RateLimitedAnswer,
  RefreshFailedAnswer,
  UnauthorizedAnswer,
  UsageAnswer,
  UsagePayload,
  ValidationAnswer
} from "./AdenApi.ts"
export { AdenClient } from "./AdenClient.ts"
export type { AdenClientOptions, AdenCredential, AdenHealth, AdenIntegrations, AdenUsageReport } from "./AdenClient.ts"
export { AdenSyncProvider } from "./AdenSyncProvider.ts"
export type { AdenSnapshot } from "./AdenSyncProvider.ts"
export { accountOf, Credential, CredentialIdentity, CredentialKey, CredentialType, resolveRef } from "./Credential.ts"
export type {
  CredentialAccount,
  CredentialRef,
  CredentialResolution,
  CredentialValidation,
  ProviderAccount
} from "./Credential.ts"
export {
  AdenCircuitOpen,
  AdenConfigError,
  AdenConnectionFailed,
  AdenFailure,
  AdenForbidden,
  AdenProtocolError,
  AdenRejected,
  AdenTimeout,
  AdenUnauthorized,
  AdenUnavailable,
  AdenUnavailableReason,
  AmbiguousCredential,
  CredentialDecryptionFailed,
  CredentialFailure,
  CredentialHostDenied,
  CredentialKeyNotFound,
  CredentialNotFound,
  CredentialStorageError,
  CredentialTemplateError,
  CredentialUseFailure,
  FernetTokenInvalid,
  GenerationConflict,
  InsufficientTimeLeft,
  IntegrationNotFound,
  InvalidCredentialId,
  InvalidTenantId,
  LockTimeout,
  NoProvider,
  RateLimited,
  ReauthorizationTimeout,
  ReauthRequired,
  RefreshFailed,
  RequiredCredentialsUnusable,
  StorageInsecure,
  StorageIoFailed,
  StorageReason,
  StorageRefused,
  TemplateMalformed,
  TemplateRefused,
  TemplateUnfit,
  TenantError,
  TenantLookupFailed
} from "./CredentialError.ts"
export type { Actionable, AdenRequestFailure, FetchFailure, StorageFailure } from "./CredentialError.ts"
export type { CredentialEvent, SyncEvent, SyncFailure, SyncReport, SyncSkipped } from "./CredentialEvent.ts"
export { CredentialHttpClient } from "./CredentialHttpClient.ts"
export type { CredentialHttpClientOptions } from "./CredentialHttpClient.ts"
export { CredentialProviders, syncConcurrency, syncOne } from "./CredentialProvider.ts"
export type { CredentialProvider, ProviderSyncEvent } from "./CredentialProvider.ts"
export { CredentialState, CredentialStorage } from "./CredentialStorage.ts"
export type { StorageChange } from "./CredentialStorage.ts"
export { CredentialStore } from "./CredentialStore.ts"
export type {
  CredentialExplanation,
  CredentialStoreOptions,
  CredentialSummary,
  StoredAccount,
  TemplateFailure,
  TemplateOptions
} from "./CredentialStore.ts"
export { CredentialTemplate } from "./CredentialTemplate.ts"
export type { TemplatePlaceholder } from "./CredentialTemplate.ts"
export { Fernet } from "./Fernet.ts"
export type { FernetKey, FernetKeys } from "./Fernet.ts"
export { backOff, confirmWithin, recheckBlocked, rememberMissing, renewInTime } from "./RefreshPolicy.ts"
export type { RefreshOutcome, RefreshPolicies, RefreshPolicy } from "./RefreshPolicy.ts"
export { AdenCachedStorage } from "./storage/AdenCachedStorage.ts"
export { EncryptedFileStorage } from "./storage/EncryptedFileStorage.ts"
export { EnvironmentStorage } from "./storage/EnvironmentStorage.ts"
export { FallbackStorage } from "./storage/FallbackStorage.ts"
export { rotateConfiguredKeys, rotateKeys } from "./storage/KeyRotation.ts"
export type { KeyRotationEvent } from "./storage/KeyRotation.ts"
export { MemoryStorage } from "./storage/MemoryStorage.ts"
export { RedisStorage } from "./storage/RedisStorage.ts"
export { SqlStorage } from "./storage/SqlStorage.ts"
export type { SqlStorageOptions } from "./storage/SqlStorage.ts"
export { TenantCredentials } from "./TenantCredentials.ts"
export type { TenantLookup, TenantSettings } from "./TenantCredentials.ts"
export { TestCredentials } from "./TestCredentials.ts"
export { UsageReporter } from "./UsageReporter.ts"
export type { CredentialUsage, UsageReporterOptions } from "./UsageReporter.ts"
