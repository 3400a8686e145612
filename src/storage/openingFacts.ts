/**
 * Facts about credentials that cannot be decrypted: one each, or a single one when it is the wrong key for all.
 */
import { CredentialDecryptionFailed } from "../errors/StorageError.ts"
import { failed, failure, ok, skipped } from "./inspect.ts"
import type { Fact } from "./inspect.ts"

export const count = (number: number, noun: string): string => `${number} ${noun}${number === 1 ? "" : "s"}`

/** The first three: `a, b, c and 4 more`. */
export const some = (names: ReadonlyArray<string>): string =>
  names.slice(0, 3).join(", ") + (names.length > 3 ? ` and ${names.length - 3} more` : "")

export interface Unopened {
  /** The id, or the name of the file when that is all that is known. */
  readonly id: string
  readonly location: string
  readonly detail: string
}

export const cannotOpen = (unopened: Unopened): Fact =>
  failed("credentials", new CredentialDecryptionFailed(unopened), [unopened.location])

export const openingFacts = (options: {
  /** How many can be decrypted. */
  readonly opened: number
  readonly unopened: ReadonlyArray<Unopened>
  /** Other facts about credentials. */
  readonly others: ReadonlyArray<Fact>
  readonly isTenant: boolean
  /** Where they are, for a person. */
  readonly location: string
  /** What an entry is called there. */
  readonly noun: "file" | "entry"
  /** The flag for another location. */
  readonly flag: string
}): ReadonlyArray<Fact> => {
  const { flag, isTenant, location, noun, opened, others, unopened } = options
  const many = (number: number) =>
    noun === "file" ? count(number, noun) : number === 1 ? "1 entry" : `${number} entries`
  const [first] = unopened
  if (first !== undefined && opened === 0) {
    return [
      ...others,
      isTenant
        ? skipped(
          "credentials",
          `The key opens none of ${many(unopened.length)} in ${location}: the tenant has a key of its own`
        )
        : failure("encryption key", {
          message: `The key opens none of ${many(unopened.length)}; ${first.location}: ${first.detail}`,
          remedy: `Set HIVE_CREDENTIAL_KEY to the key that they were written with, or name another ${flag}.`,
          locations: unopened.map(({ location }) => location)
        })
    ]
  }
  const facts = [...others, ...unopened.map(cannotOpen)]
  return facts.length > 0
    ? facts
    : [ok("credentials", opened === 0 ? "None yet" : `${many(opened)} found; all can be opened`)]
}
