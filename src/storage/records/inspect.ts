/**
 * Facts about a namespace of a database: which entries can be decrypted, and whether ids and states are intact. Writes nothing.
 */
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type { FernetKeys } from "../../encryption/Fernet.ts"
import type { StorageIoFailed } from "../../errors/StorageError.ts"
import type { Credential } from "../../model/Credential.ts"
import { ofAnotherNamespace } from "../format/HiveDocument.ts"
import { makeSealedCodec } from "../format/sealed.ts"
import { decodeState } from "../format/StateRecord.ts"
import { wrongTenant } from "../format/tenantNames.ts"
import { rebuiltOnWrite, skipped, warning } from "../inspect.ts"
import type { Fact } from "../inspect.ts"
import { cannotOpen, count, issuerFacts, openingFacts, some } from "../openingFacts.ts"
import type { Unopened } from "../openingFacts.ts"
import type { RecordDatabase } from "./RecordDatabase.ts"
import { emptyRecord, isForeign } from "./RecordStorage.ts"

/** How many entries are read in one round trip. */
const batchSize = 100

/** All facts about a namespace. Without keys, its entries are not decrypted. */
export const inspectRecords = Effect.fnUntraced(function*(
  database: RecordDatabase,
  keys: FernetKeys | undefined,
  { isOther, tenant }: { readonly tenant: string | undefined; readonly isOther: boolean }
): Effect.fn.Return<ReadonlyArray<Fact>, StorageIoFailed> {
  const ids = yield* database.ids
  // reported once, not for each tenant
  if (keys === undefined) return isOther ? [] : [skipped("credentials", "There is no key to open them with")]
  const { open } = makeSealedCodec(keys, { namespace: database.namespace, tenantId: undefined })
  const unopened: Array<Unopened> = []
  const foreign: Array<Unopened> = []
  const missing: Array<string> = []
  const broken: Array<string> = []
  const found: Array<{ readonly credential: Credential; readonly location: string }> = []
  for (const batch of Arr.chunksOf(ids, batchSize)) {
    const records = yield* database.read(batch)
    for (const [index, id] of batch.entries()) {
      const record = records[index] ?? emptyRecord
      const location = database.locationOf(id)
      if (isForeign(record)) {
        foreign.push({ id, location, detail: record.foreign })
        continue
      }
      if (record.state !== undefined && Option.isNone(decodeState(record.state))) broken.push(location)
      if (record.document === undefined) {
        missing.push(location)
        continue
      }
      const content = yield* Effect.result(open(id, location, record.document))
      if (Result.isFailure(content)) {
        const { detail } = content.failure
        const those = detail === ofAnotherNamespace ? foreign : unopened
        those.push({ id, location, detail })
        continue
      }
      const wrong = wrongTenant(tenant, content.success)
      if (wrong === undefined) found.push({ credential: content.success.credential, location })
      else foreign.push({ id, location, detail: wrong })
    }
  }
  return [
    ...openingFacts({
      opened: found.length,
      unopened,
      others: foreign.map(cannotOpen),
      isTenant: isOther,
      location: database.location,
      noun: "entry",
      flag: "--namespace"
    }),
    ...issuerFacts(found),
    ...(missing.length === 0 ? [] : [
      warning("index", {
        message: `${count(missing.length, "id")} listed without an entry: ${some(missing)}`,
        remedy: rewrittenOnSync,
        locations: missing
      })
    ]),
    ...(broken.length === 0 ? [] : [
      warning("state", {
        message: `${count(broken.length, "state record")} cannot be read and will be ignored: ${some(broken)}`,
        remedy: rebuiltOnWrite,
        locations: broken
      })
    ])
  ]
})

const rewrittenOnSync = "Nothing to do: a read finds no credential there, and a sync writes it again."
