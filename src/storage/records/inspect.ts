/**
 * What is in a namespace of a database: what opens, and whether what is derived fits. Nothing is written.
 */
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type { FernetKeys } from "../../encryption/Fernet.ts"
import type { StorageIoFailed } from "../../errors/CredentialError.ts"
import { makeSealing } from "../format/sealed.ts"
import { decodeState } from "../format/StateRecord.ts"
import { wrongTenant } from "../format/tenantNames.ts"
import { skipped, warning } from "../inspect.ts"
import type { Fact } from "../inspect.ts"
import { cannotOpen, count, openingFacts, some } from "../openingFacts.ts"
import type { Unopened } from "../openingFacts.ts"
import type { RecordDatabase } from "./RecordDatabase.ts"
import { isForeign, nothing } from "./RecordStorage.ts"

/** So many entries are read in one round trip. */
const batchSize = 100

const mendsItself = "Nothing to do: the next write makes it anew."

/** All that there is to find in a namespace. Without keys its entries are not opened. */
export const inspectRecords = Effect.fnUntraced(function*(
  database: RecordDatabase,
  keys: FernetKeys | undefined,
  { isOther, tenant }: { readonly tenant: string | undefined; readonly isOther: boolean }
): Effect.fn.Return<ReadonlyArray<Fact>, StorageIoFailed> {
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
    ...openingFacts({
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
        locations: missing
      })
    ]),
    ...(broken.length === 0 ? [] : [
      warning("state", {
        message: `${count(broken.length, "state record")} cannot be read, and count as none: ${some(broken)}`,
        remedy: mendsItself,
        locations: broken
      })
    ])
  ]
})

const goesOnWrite = "Nothing to do: a read finds nothing there, and a sync writes it anew."
