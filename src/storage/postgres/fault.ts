/**
 * Turns errors of Postgres into messages and remedies for a person.
 */
import * as Predicate from "effect/Predicate"
import type { SqlError } from "effect/sql/SqlError"
import { StorageIoFailed } from "../../errors/StorageError.ts"
import { cleanMessage } from "../../util/sanitize.ts"
import { isUntrusted, untrustedRemedy } from "../records/tls.ts"

export const unreachableRemedy =
  "Check that the Postgres server runs and can be reached from here; the library tries again by itself."

export const foreignTableRemedy = "See what other programs keep in tables of this name, or choose another table."

/** Remedies by prefix of an SQLSTATE or other code, longer prefixes first. */
const remedies: ReadonlyArray<readonly [string, string]> = [
  ["URL", "Give the URL as postgres://user:password@host:5432/database."],
  ["PLAIN", "Turn TLS on at the server. To send password and data in plain text, put sslmode=disable into the URL."],
  ["UNTRUSTED", `${untrustedRemedy}, or by sslrootcert in the URL.`],
  ["28", "Check user name and password of the Postgres server, and that its pg_hba.conf admits this user."],
  ["3D000", "Create the database, or name another one in the URL."],
  ["3F000", "Create the schema, or choose another table."],
  [
    "42501",
    "Grant the user access to the tables; if they do not exist, run SqlStorage.migrate as a user who may create tables."
  ],
  ["42P01", "Create the tables: run SqlStorage.migrate, or aden-creds sync."],
  ["42", foreignTableRemedy],
  ["25006", "Name a server that accepts writes: this one is a replica, or read-only."],
  ["53", "Check the Postgres server: it has no space, memory or connections left."],
  ["08", unreachableRemedy],
  ["57", unreachableRemedy]
]

/** Whether a code is an SQLSTATE rather than a system error code. */
const isState = (code: string): boolean => /^(?=.*\d)[\dA-Z]{5}$/.test(code)

/** Errors of the client about the URL, before it connects. */
const aboutUrl = /\bURL\b|^No username configured$/

/** The client's error when the server has no TLS. */
const withoutTls = /^The server does not support TLS$/

/** Text and code of the cause, the server's error: the client's own message does not help. */
const sourceOf = ({ reason }: SqlError): { readonly text: string; readonly code: string } => {
  const { cause } = reason
  const text = cause instanceof Error && cause.message !== "" ? cause.message : reason.message ?? reason._tag
  const code = Predicate.hasProperty(cause, "code") && Predicate.isString(cause.code) ? cause.code : ""
  if (isUntrusted(cause)) return { text, code: "UNTRUSTED" }
  if (code === "" && withoutTls.test(text)) return { text, code: "PLAIN" }
  return { text, code: (code === "" || code === "ERR_INVALID_URL") && aboutUrl.test(text) ? "URL" : code }
}

/** Whether retrying cannot help: the URL is wrong, the server refuses TLS or this user, or the database does not exist. */
export const isRefusal = (error: SqlError): boolean =>
  /^(?:28|3D000$|URL$|PLAIN$|UNTRUSTED$)/.test(sourceOf(error).code)

export const isTableMissing = (error: SqlError): boolean => sourceOf(error).code === "42P01"

/** The error for a person. `secrets` are masked, in case the server repeats them. */
export const sqlFault = (
  location: string,
  error: SqlError,
  secrets: ReadonlyArray<string> = []
): StorageIoFailed => {
  const { code, text } = sourceOf(error)
  const [, remedy = isState(code) ? "See the log of the Postgres server." : unreachableRemedy] =
    remedies.find(([state]) => code.startsWith(state)) ?? []
  return new StorageIoFailed({ location, detail: cleanMessage(text, secrets), remedy })
}
