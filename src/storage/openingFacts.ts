/**
 * What is told of credentials that no key opens: each by itself, or that the key is another one.
 */
import { CredentialDecryptionFailed } from "../errors/CredentialError.ts"
import { failed, failure, ok, skipped } from "./inspect.ts"
import type { Fact } from "./inspect.ts"

export const count = (number: number, noun: string): string => `${number} ${noun}${number === 1 ? "" : "s"}`

/** `a, b, c and 4 more`. */
export const some = (names: ReadonlyArray<string>): string =>
  names.slice(0, 3).join(", ") + (names.length > 3 ? ` and ${names.length - 3} more` : "")

export interface Unopened {
  /** The id, or the name of the file where it does not tell one. */
  readonly id: string
  readonly location: string
  readonly detail: string
}

export const cannotOpen = (unopened: Unopened): Fact =>
  failed("credentials", new CredentialDecryptionFailed(unopened), [unopened.location])

export const openingFacts = (options: {
  /** How many do open. */
  readonly opened: number
  readonly unopened: ReadonlyArray<Unopened>
  /** What else was found about them. */
  readonly others: ReadonlyArray<Fact>
  readonly isTenant: boolean
  /** Where they are, for a person. */
  readonly place: string
  /** What one of them is. */
  readonly noun: "file" | "entry"
  /** The flag that names another place. */
  readonly flag: string
}): ReadonlyArray<Fact> => {
  const { flag, isTenant, noun, opened, others, place, unopened } = options
  const many = (number: number) =>
    noun === "file" ? count(number, noun) : number === 1 ? "1 entry" : `${number} entries`
  const [first] = unopened
  if (first !== undefined && opened === 0) {
    return [
      ...others,
      isTenant
        ? skipped(
          "credentials",
          `The key opens none of ${many(unopened.length)} in ${place}: the tenant has another`
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
    : [ok("credentials", opened === 0 ? "There are none yet" : `${many(opened)} found, and each opens`)]
}
