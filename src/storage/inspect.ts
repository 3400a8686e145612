/**
 * Facts about a storage for diagnosis (`doctor`). Inspecting writes nothing.
 */
import type { CredentialDecryptionFailed, CredentialStorageError } from "../errors/StorageError.ts"

/** The remedy for an index or a state that is missing or damaged. */
export const rebuiltOnWrite = "Nothing to do: the next write rebuilds it."

/** The subject of a fact. */
export type Subject = "encryption key" | "directory" | "database" | "credentials" | "index" | "state" | "locks"

interface Located {
  /** The files, folders or places in a database that are concerned. */
  readonly locations: ReadonlyArray<string>
}

interface Problem extends Partial<Located> {
  readonly message: string
  readonly remedy: string
}

/**
 * `warning`: resolves itself. `failure`: somebody has to fix it. `error`: the same, as an error of the library. `skipped`: could not
 * be checked, because of another finding.
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
