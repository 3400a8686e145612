/**
 * Everything that a command can fail with, and what is said of it.
 */
import type {
  AdenConfigError,
  AdenFailure,
  CredentialFailure,
  CredentialKeyNotFound,
  GenerationConflict,
  NoProvider
} from "../CredentialError.ts"

export type CommandFailure =
  | AdenConfigError
  | AdenFailure
  | CredentialFailure
  | CredentialKeyNotFound
  | GenerationConflict
  | NoProvider
