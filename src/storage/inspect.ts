/**
 * What is found in a storage by looking, for a person who wants to know what is wrong. Nothing is written.
 */
import type { CredentialDecryptionFailed, CredentialStorageError } from "../errors/CredentialError.ts"

/** What a fact is about. */
export type Subject = "encryption key" | "directory" | "database" | "credentials" | "index" | "state" | "locks"

interface Located {
  /** The files, folders or places in a database that it is about. */
  readonly locations: ReadonlyArray<string>
}

interface Problem extends Partial<Located> {
  readonly message: string
  readonly remedy: string
}

/**
 * `warning`: it passes, or is put right, by itself. `failure`: somebody has to fix it. `error`: the same, as an error of the
 * library. `skipped`: it could not be looked at, because of something else that is found.
 */
export type Fact =
  & { readonly subject: Subject }
  & Located
  & (
    | { readonly status: "ok" | "skipped"; readonly message: string }
    | { readonly status: "warning" | "failure"; readonly message: string; readonly remedy: string }
    | { readonly status: "error"; readonly error: CredentialStorageError | CredentialDecryptionFailed }
  )

export const ok = (subject: Subject, message: string): Fact => ({ subject, status: "ok", message, locations: [] })

export const skipped = (subject: Subject, message: string): Fact => ({
  subject,
  status: "skipped",
  message,
  locations: []
})

export const warning = (subject: Subject, problem: Problem): Fact => ({
  subject,
  status: "warning",
  locations: [],
  ...problem
})

export const failure = (subject: Subject, problem: Problem): Fact => ({
  subject,
  status: "failure",
  locations: [],
  ...problem
})

export const failed = (
  subject: Subject,
  error: CredentialStorageError | CredentialDecryptionFailed,
  locations: ReadonlyArray<string> = []
): Fact => ({ subject, status: "error", error, locations })
