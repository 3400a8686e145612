/**
 * Valid OAuth tokens for agents: fetched from an Aden server, cached encrypted on disk, refreshed in time, available when Aden
 * is not.
 *
 * @since 0.1.0
 */
export * from "./AdenApi.ts"
export * from "./AdenClient.ts"
export * from "./AdenSyncProvider.ts"
export * from "./Credential.ts"
export * from "./CredentialError.ts"
export * from "./CredentialEvent.ts"
export * from "./CredentialProvider.ts"
export * from "./CredentialStorage.ts"
export * from "./CredentialStore.ts"
export * from "./Fernet.ts"
export * from "./RefreshPolicy.ts"
export * from "./storage/AdenCachedStorage.ts"
export * from "./storage/EncryptedFileStorage.ts"
export * from "./storage/MemoryStorage.ts"
export * from "./TenantCredentials.ts"
export * from "./TestCredentials.ts"
