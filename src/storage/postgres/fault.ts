/**
 * What a Postgres server says when it cannot do something, for a person.
 */
import * as Predicate from "effect/Predicate"
import type { SqlError } from "effect/sql/SqlError"
import { StorageIoFailed } from "../../errors/CredentialError.ts"
import { cleanMessage } from "../../util/sanitize.ts"

export const unreachableRemedy =
  "Check that the Postgres server runs and can be reached from here; the library tries again by itself."

/** By the beginning of an SQLSTATE or another code, the longer ones first. */
const remedies: ReadonlyArray<readonly [string, string]> = [
  ["URL", "Give the URL as postgres://user:password@host:5432/database."],
  ["28", "Check user name and password of the Postgres server, and whom its pg_hba.conf lets in."],
  ["3D000", "Make the database, or name another one in the URL."],
  ["3F000", "Make the schema, or choose another table."],
  ["42501", "Grant the user the tables; somebody who may make tables runs SqlStorage.migrate."],
  ["42P01", "Make the tables: run SqlStorage.migrate, or aden-creds sync."],
  ["42", "See what other programs keep in tables of this name, or choose another table."],
  ["25006", "Name a server that takes writes: this one is a replica, or read-only."],
  ["53", "Look after the Postgres server: it has no space, memory or connections left."],
  ["08", unreachableRemedy],
  ["57", unreachableRemedy]
]

/** An SQLSTATE, not the code of an error of the system. */
const isState = (code: string): boolean => /^(?=.*\d)[\dA-Z]{5}$/.test(code)

/** What the client finds wrong with a URL before it connects. */
const aboutUrl = /\bURL\b|^No username configured$/

/** The client's own word, by itself, is no help: the server's is the cause. */
const sourceOf = ({ reason }: SqlError): { readonly text: string; readonly code: string } => {
  const { cause } = reason
  const text = cause instanceof Error && cause.message !== "" ? cause.message : reason.message ?? reason._tag
  const code = Predicate.hasProperty(cause, "code") && Predicate.isString(cause.code) ? cause.code : ""
  return { text, code: (code === "" || code === "ERR_INVALID_URL") && aboutUrl.test(text) ? "URL" : code }
}

/** Whether it will not be otherwise by itself: the URL is wrong, or the server does not let this user in or has no such database. */
export const isRefusal = (error: SqlError): boolean => /^(?:28|3D000$|URL$)/.test(sourceOf(error).code)

export const isTableMissing = (error: SqlError): boolean => sourceOf(error).code === "42P01"

/** No secrets are in it: `secrets` are those that the server might repeat. */
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
