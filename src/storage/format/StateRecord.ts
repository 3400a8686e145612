/**
 * The state of a credential as JSON, with the id it belongs to, and authenticated: who can write there need not have the key.
 * The code is the last member, so that versions that know nothing of it read the record, and covers the text before it, with all
 * members that later versions may add.
 */
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { Authenticator, codePattern } from "../../encryption/authenticator.ts"
import type { FernetKeys } from "../../encryption/Fernet.ts"
import { CredentialState } from "../../model/CredentialState.ts"

const StateRecord = Schema.fromJsonString(
  Schema.Struct({ id: Schema.optional(Schema.String), ...CredentialState.fields })
)

const decode = Schema.decodeUnknownOption(StateRecord)
const encode = Schema.encodeSync(StateRecord)

/** A generation that can be counted up for ever. */
const isCountable = (generation: number): boolean => generation >= 0 && generation <= Number.MAX_SAFE_INTEGER / 2

interface Decoded {
  readonly id: string | undefined
  readonly state: CredentialState
}

/** The content of a record, whoever wrote it. None when the text is not a state. */
export const decodeState = (text: string): Option.Option<Decoded> =>
  decode(text).pipe(
    Option.filter(({ generation }) => isCountable(generation)),
    Option.map(({ id, ...state }) => ({ id, state: new CredentialState(state) }))
  )

/**
 * What a record that is not authenticated can do: make the store ask Aden. Its generation counts, so that compare-and-swap
 * holds among processes of several versions. Nothing else of it is believed.
 */
const hintOf = ({ blockedSince, generation, hasSiblings, mayBeBlocked }: CredentialState): CredentialState =>
  new CredentialState({
    generation,
    ...(hasSiblings === true ? { hasSiblings } : {}),
    ...(blockedSince !== undefined || mayBeBlocked === true ? { mayBeBlocked: true } : {})
  })

const authenticated = new RegExp(`,"mac":"(${codePattern})"\\}$`)

const signed = (place: string, id: string, text: string): string => JSON.stringify([place, id]) + text

/**
 * Writes and reads the state records of one place: a namespace of a database, or a directory (`""`, of a tenant `"/{tenant}"`). A record
 * that was written for another place, or another id, is not authentic. `alsoOf` are further names of the place.
 */
export class StateCodec {
  readonly #authenticator: Authenticator
  readonly #namespace: string
  readonly #places: ReadonlyArray<string>

  constructor(keys: FernetKeys, namespace: string, alsoOf: ReadonlyArray<string> = []) {
    this.#authenticator = new Authenticator(keys, "aden-credentials state 1")
    this.#namespace = namespace
    this.#places = [namespace, ...alsoOf]
  }

  encode(id: string, state: CredentialState): string {
    return this.#encoded(this.#namespace, id, encode({ ...state, id }).slice(0, -1))
  }

  #encoded(place: string, id: string, text: string): string {
    return `${text},"mac":"${this.#authenticator.sign(signed(place, id, text))}"}`
  }

  /**
   * The record of an id: a hint, unless it is authentic and has the `generation` of the entry. None when the text is not a state. Its
   * `id` is the one in the text.
   */
  decode(id: string, text: string, generation?: number): Option.Option<Decoded> {
    return Option.map(decodeState(text), (found) => {
      const isOfEntry = generation === undefined || generation === found.state.generation
      return isOfEntry && this.#check(id, text) !== undefined ? found : { id: found.id, state: hintOf(found.state) }
    })
  }

  /** Whose the record is, when it is authentic, and whether it is so under the first key. */
  #check(id: string, text: string) {
    const found = authenticated.exec(text)
    if (found === null) return undefined
    const [{ length }, code = ""] = found
    const before = text.slice(0, -length)
    for (const place of this.#places) {
      const { isAuthentic, isFirst } = this.#authenticator.verify(signed(place, id, before), code)
      if (isAuthentic) return { place, before, isFirst }
    }
    return undefined
  }

  /**
   * The same record under the first key; `undefined` where it is so already, or is not authentic: that must not make it so.
   */
  reencode(id: string, text: string): string | undefined {
    const found = this.#check(id, text)
    return found === undefined || found.isFirst ? undefined : this.#encoded(found.place, id, found.before)
  }
}
