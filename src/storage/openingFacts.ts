/**
 * Facts about credentials that cannot be decrypted: one each, or a single one when it is the wrong key for all.
 */
import { CredentialDecryptionFailed } from "../errors/StorageError.ts"
import { issuerText } from "../model/Credential.ts"
import type { Credential } from "../model/Credential.ts"
import { failed, failure, ok, skipped, warning } from "./inspect.ts"
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

/** Whose credentials are stored, where there are several issuers. What names none of them is used by all. */
export const issuerFacts = (
  stored: ReadonlyArray<{ readonly credential: Credential; readonly location: string }>
): ReadonlyArray<Fact> => {
  const counts = new Map<string, number>()
  const unnamed: Array<string> = []
  for (const { credential, location } of stored) {
    if (credential.issuer !== undefined) {
      const text = issuerText(credential.issuer)
      counts.set(text, (counts.get(text) ?? 0) + 1)
    } else if (credential.isAdenManaged) unnamed.push(location)
  }
  if (counts.size < 2) return []
  const issuers = Array.from(counts, ([text, number]) => `${text} (${number})`).toSorted().join("; ")
  return [
    unnamed.length === 0
      ? ok("credentials", `There are several issuers, and each uses its own only: ${issuers}`)
      : warning("credentials", {
        message: `There are several issuers: ${issuers}. ` +
          `All use ${count(unnamed.length, "credential")} of Aden's that ${
            unnamed.length === 1 ? "names" : "name"
          } none: ${some(unnamed)}`,
        remedy: "Run aden-creds sync with the settings of the one that they belong to.",
        locations: unnamed
      })
  ]
}
