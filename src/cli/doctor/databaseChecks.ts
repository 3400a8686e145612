/**
 * What is in a database: whether it lets this program in, what opens, and whether what is derived fits. Nothing is written.
 */
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import type { FernetKeys } from "../../encryption/Fernet.ts"
import { CredentialStorageError } from "../../errors/CredentialError.ts"
import type { StorageIoFailed } from "../../errors/CredentialError.ts"
import { makeSealing } from "../../storage/format/sealed.ts"
import { decodeState } from "../../storage/format/StateRecord.ts"
import { openDatabase } from "../../storage/migration/databases.ts"
import type { DatabaseLocation } from "../../storage/migration/location.ts"
import { wrongTenant } from "../../storage/migration/tenantMark.ts"
import type { RecordDatabase } from "../../storage/records/RecordDatabase.ts"
import { isForeign, nothing } from "../../storage/records/RecordStorage.ts"
import { cleanText } from "../../util/sanitize.ts"
import { ExitStatus } from "../ExitStatus.ts"
import { failed, failure, ok, skipped, warning } from "./Finding.ts"
import type { Check, Finding } from "./Finding.ts"
import { cannotOpen, count, openingFindings, some } from "./openingFindings.ts"
import type { Unopened } from "./openingFindings.ts"

/** So many entries are read in one round trip. */
const batchSize = 100

const mendsItself = "Nothing to do: the next write makes it anew."

const unusable = (check: Check, reason: StorageIoFailed): Finding =>
  failed(check, new CredentialStorageError({ id: undefined, operation: "look at what is there", reason }), [
    reason.location
  ])

/** All that there is to find in a namespace, and in those of its tenants. Without keys its entries are not opened. */
export const databaseChecks = (
  location: DatabaseLocation,
  keys: FernetKeys | undefined
): Effect.Effect<ReadonlyArray<Finding>> =>
  Effect.gen(function*(): Effect.fn.Return<ReadonlyArray<Finding>, StorageIoFailed, Scope.Scope> {
    const opened = yield* Effect.result(openDatabase(location, { makesTables: false }))
    if (Result.isFailure(opened)) return [failed("database", opened.failure), notLookedAt]
    const { eviction, isWritable, recordsOf, shown, tenants } = opened.success
    const own = yield* recordFindings(recordsOf(undefined), keys, { tenant: location.tenantId, isOther: false })
    const names = yield* tenants
    const ofTenants = yield* Effect.forEach(
      names,
      (name) => recordFindings(recordsOf(name), keys, { tenant: name, isOther: true })
    )
    const policy = yield* eviction
    return [
      (yield* isWritable) ? ok("database", `${shown} answers`) : readOnly(shown),
      ...(policy === undefined ? [] : [forgetful(shown, policy)]),
      ...own,
      ...ofTenants.flat().filter(({ status }) => status !== "ok")
    ]
  }).pipe(
    // what fails for one namespace fails for all: the server, or the table
    Effect.catch((reason) => Effect.succeed([unusable("database", reason), notLookedAt])),
    Effect.scoped
  )

const notLookedAt = skipped("credentials", "They cannot be looked at without the database")

const readOnly = (shown: string) =>
  failure("database", {
    message: `${shown} takes no writes: what is renewed stays in the memory of each process`,
    remedy: "Name a server that takes writes: this one is a replica, or read-only.",
    exitCode: ExitStatus.storage
  })

const forgetful = (shown: string, policy: string) =>
  warning("database", {
    message: `${shown} drops credentials when its memory is full (maxmemory-policy ${cleanText(policy)})`,
    remedy: "Set maxmemory-policy to noeviction, or use another server.",
    exitCode: ExitStatus.storage
  })

const recordFindings = Effect.fnUntraced(function*(
  database: RecordDatabase,
  keys: FernetKeys | undefined,
  { isOther, tenant }: { readonly tenant: string | undefined; readonly isOther: boolean }
): Effect.fn.Return<ReadonlyArray<Finding>, StorageIoFailed> {
  const ids = yield* database.ids
  // said once
  if (keys === undefined) return isOther ? [] : [skipped("credentials", "There is no key to open them with")]
  const { open } = makeSealing(keys, undefined)
  const unopened: Array<Unopened> = []
  const strange: Array<Unopened> = []
  const missing: Array<string> = []
  const broken: Array<string> = []
  let opened = 0
  for (const batch of Arr.chunksOf(ids, batchSize)) {
    const records = yield* database.read(batch)
    for (const [index, id] of batch.entries()) {
      const record = records[index] ?? nothing
      const location = database.locationOf(id)
      if (isForeign(record)) {
        strange.push({ id, location, detail: record.foreign })
        continue
      }
      if (record.state !== undefined && Option.isNone(decodeState(record.state))) broken.push(location)
      if (record.document === undefined) {
        missing.push(location)
        continue
      }
      const content = yield* Effect.result(open(id, location, record.document))
      if (Result.isFailure(content)) {
        unopened.push({ id, location, detail: content.failure.detail })
        continue
      }
      const wrong = wrongTenant(tenant, content.success)
      if (wrong === undefined) opened++
      else strange.push({ id, location, detail: wrong })
    }
  }
  return [
    ...openingFindings({
      opened,
      unopened,
      others: strange.map(cannotOpen),
      isTenant: isOther,
      place: database.place,
      noun: "entry",
      flag: "--namespace"
    }),
    ...(missing.length === 0 ? [] : [
      warning("index", {
        message: `${count(missing.length, "id")} listed without an entry: ${some(missing)}`,
        remedy: goesOnWrite,
        exitCode: ExitStatus.storage,
        locations: missing
      })
    ]),
    ...(broken.length === 0 ? [] : [
      warning("state", {
        message: `${count(broken.length, "state record")} cannot be read, and count as none: ${some(broken)}`,
        remedy: mendsItself,
        exitCode: ExitStatus.storage,
        locations: broken
      })
    ])
  ]
})

const goesOnWrite = "Nothing to do: a read finds nothing there, and a sync writes it anew."
