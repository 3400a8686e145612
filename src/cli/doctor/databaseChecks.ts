/**
 * Checks a database: whether this program gets in, which credentials can be opened, and whether derived data fits them. Writes
 * nothing.
 */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import type { FernetKeys } from "../../encryption/Fernet.ts"
import { CredentialStorageError } from "../../errors/StorageError.ts"
import type { StorageIoFailed } from "../../errors/StorageError.ts"
import { openDatabase } from "../../storage/migration/databases.ts"
import type { DatabaseLocation } from "../../storage/migration/location.ts"
import { inspectRecords } from "../../storage/records/inspect.ts"
import { cleanText } from "../../util/sanitize.ts"
import { ExitStatus } from "../ExitStatus.ts"
import { failed, failure, findingOf, ok, skipped, warning } from "./Finding.ts"
import type { Check, Finding } from "./Finding.ts"

const unusable = (check: Check, reason: StorageIoFailed): Finding =>
  failed(check, new CredentialStorageError({ id: undefined, operation: "inspect what is stored", reason }), [
    reason.location
  ])

/** The findings in a namespace and in those of its tenants. Without keys, credentials are not opened. */
export const databaseChecks = (
  location: DatabaseLocation,
  keys: FernetKeys | undefined
): Effect.Effect<ReadonlyArray<Finding>> =>
  Effect.gen(function*(): Effect.fn.Return<ReadonlyArray<Finding>, StorageIoFailed, Scope.Scope> {
    const opened = yield* Effect.result(openDatabase(location, { makesTables: false }))
    if (Result.isFailure(opened)) return [failed("database", opened.failure), notChecked]
    const { eviction, isWritable, recordsOf, shown, tenants } = opened.success
    const own = yield* inspectRecords(recordsOf(undefined), keys, { tenant: location.tenantId, isOther: false })
    const names = yield* tenants
    const ofTenants = yield* Effect.forEach(
      names,
      (name) => inspectRecords(recordsOf(name), keys, { tenant: name, isOther: true })
    )
    const policy = yield* eviction
    return [
      (yield* isWritable) ? ok("database", `${shown} answers`) : readOnly(shown),
      ...(policy === undefined ? [] : [forgetful(shown, policy)]),
      ...own.map(findingOf),
      ...ofTenants.flat().filter(({ status }) => status !== "ok").map(findingOf)
    ]
  }).pipe(
    // what fails for one namespace fails for all: the server, or the table
    Effect.catch((reason) => Effect.succeed([unusable("database", reason), notChecked])),
    Effect.scoped
  )

const notChecked = skipped("credentials", "They cannot be checked without the database")

const readOnly = (shown: string) =>
  failure("database", {
    message: `${shown} is read-only: refreshed tokens stay in the memory of each process`,
    remedy: "Name a server that accepts writes: this one is a replica, or set to read-only.",
    exitCode: ExitStatus.storage
  })

const forgetful = (shown: string, policy: string) =>
  warning("database", {
    message: `${shown} drops credentials when its memory is full (maxmemory-policy ${cleanText(policy)})`,
    remedy: "Set maxmemory-policy to noeviction, or use another server.",
    exitCode: ExitStatus.storage
  })
