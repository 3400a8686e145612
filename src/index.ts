/**
 * Valid OAuth tokens for agents: fetched from an Aden server, cached encrypted on disk, refreshed in time, available when Aden
 * is not.
 *
 * @since 0.1.0
 * @module
 */
export { AdenCachedStorage } from "./cached/AdenCachedStorage.ts"
export { Fernet } from "./encryption/Fernet.ts"
export type { FernetKey, FernetKeys } from "./encryption/Fernet.ts"
export type { Actionable } from "./errors/Actionable.ts"
export {
  AdenCircuitOpen,
  AdenConnectionFailed,
  AdenFailure,
  AdenForbidden,
  AdenProtocolError,
  AdenRejected,
  AdenTimeout,
  AdenUnauthorized,
  AdenUnavailable,
  AdenUnavailableReason,
  IntegrationNotFound,
  RateLimited,
  ReauthRequired,
  RefreshFailed
} from "./errors/AdenError.ts"
export type { AdenRequestFailure, FetchFailure } from "./errors/AdenError.ts"
export { AdenConfigError } from "./errors/ConfigError.ts"
export {
  AmbiguousCredential,
  CredentialFailure,
  CredentialKeyNotFound,
  CredentialNotFound,
  InsufficientTimeLeft,
  NoProvider,
  ReauthorizationTimeout,
  RequiredCredentialsUnusable
} from "./errors/CredentialError.ts"
export { FernetTokenInvalid } from "./errors/EncryptionError.ts"
export {
  CredentialDecryptionFailed,
  CredentialStorageError,
  GenerationConflict,
  InvalidCredentialId,
  LockTimeout,
  StorageInsecure,
  StorageIoFailed,
  StorageReason,
  StorageRefused
} from "./errors/StorageError.ts"
export type { StorageFailure } from "./errors/StorageError.ts"
export { InvalidTenantId, TenantError, TenantLookupFailed, TenantsShareLayers } from "./errors/TenantError.ts"
export {
  CredentialHostDenied,
  CredentialTemplateError,
  CredentialUseFailure,
  TemplateMalformed,
  TemplateRefused,
  TemplateUnfit
} from "./errors/UseError.ts"
export { CredentialHttpClient } from "./http/CredentialHttpClient.ts"
export type { CredentialHttpClientOptions } from "./http/CredentialHttpClient.ts"
export {
  accountOf,
  Credential,
  CredentialIdentity,
  CredentialIssuer,
  CredentialKey,
  CredentialType,
  resolveRef
} from "./model/Credential.ts"
export type {
  CredentialAccount,
  CredentialRef,
  CredentialResolution,
  CredentialValidation,
  ProviderAccount
} from "./model/Credential.ts"
export type { CredentialEvent, SyncEvent, SyncFailure, SyncReport, SyncSkipped } from "./model/CredentialEvent.ts"
export { CredentialState } from "./model/CredentialState.ts"
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
} from "./providers/aden/AdenApi.ts"
export { AdenClient } from "./providers/aden/AdenClient.ts"
export type {
  AdenClientOptions,
  AdenCredential,
  AdenHealth,
  AdenIntegrations,
  AdenUsageReport
} from "./providers/aden/AdenClient.ts"
export { AdenSyncProvider } from "./providers/aden/AdenSyncProvider.ts"
export type { AdenSnapshot } from "./providers/aden/AdenSyncProvider.ts"
export { CredentialProviders, syncConcurrency, syncOne } from "./providers/CredentialProvider.ts"
export type { CredentialProvider, ProviderList, ProviderSyncEvent } from "./providers/CredentialProvider.ts"
export { CredentialStorage } from "./storage/CredentialStorage.ts"
export type { StorageChange, StoredEntry } from "./storage/CredentialStorage.ts"
export { EnvironmentStorage } from "./storage/EnvironmentStorage.ts"
export { FallbackStorage } from "./storage/FallbackStorage.ts"
export { EncryptedFileStorage } from "./storage/files/EncryptedFileStorage.ts"
export { rotateConfiguredKeys, rotateKeys } from "./storage/files/KeyRotation.ts"
export type { KeyRotationEvent } from "./storage/files/KeyRotation.ts"
export { MemoryStorage } from "./storage/MemoryStorage.ts"
export { SqlStorage } from "./storage/postgres/SqlStorage.ts"
export type { SqlStorageOptions } from "./storage/postgres/SqlStorage.ts"
export { RedisStorage } from "./storage/redis/RedisStorage.ts"
export { CredentialStore } from "./store/CredentialStore.ts"
export type { CredentialStoreOptions, TemplateFailure, TemplateOptions } from "./store/CredentialStore.ts"
export type { CredentialExplanation } from "./store/explain.ts"
export type { CredentialSummary, StoredAccount } from "./store/list.ts"
export { backOff, confirmWithin, recheckBlocked, rememberMissing, renewInTime } from "./store/RefreshPolicy.ts"
export type { RefreshOutcome, RefreshPolicies, RefreshPolicy } from "./store/RefreshPolicy.ts"
export { CredentialTemplate } from "./templates/CredentialTemplate.ts"
export type { TemplatePlaceholder } from "./templates/CredentialTemplate.ts"
export { TenantCredentials } from "./tenants/TenantCredentials.ts"
export type { TenantLookup, TenantSettings } from "./tenants/TenantCredentials.ts"
export { TestCredentials } from "./testing/TestCredentials.ts"
export { UsageReporter } from "./usage/UsageReporter.ts"
export type { CredentialUsage, UsageReporterOptions } from "./usage/UsageReporter.ts"
