/**
 * The state of a credential as JSON, with the id it belongs to, and authenticated: whoever can write where it is stored has no key.
 * The code is the last member, so that versions that know nothing of it read the record, and covers the text before it, with all
 * members that later versions may add.
 */
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { codePattern, makeAuthenticator } from "../../encryption/authenticator.ts"
import type { FernetKeys } from "../../encryption/Fernet.ts"
import { CredentialState } from "../../model/CredentialState.ts"

const StateRecord = Schema.fromJsonString(
  Schema.Struct({ id: Schema.optional(Schema.String), ...CredentialState.fields })
)

const decode = Schema.decodeUnknownOption(StateRecord)
const encode = Schema.encodeSync(StateRecord)

/** A record that is not authenticated. */
export const encodeState = (id: string, state: CredentialState): string => encode({ ...state, id })

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

/**
 * Writes and reads the state records of one place: a namespace of a database, or a directory (`""`, of a tenant `"/{tenant}"`). A record
 * that was written for another place, or another id, is not authentic. `alsoOf` are further names of the place.
 */
export const makeStateCodec = (
  keys: FernetKeys,
  namespace: string,
  { alsoOf = [] }: { readonly alsoOf?: ReadonlyArray<string> } = {}
) => {
  const { sign, verify } = makeAuthenticator(keys, "aden-credentials state 1")
  const signed = (place: string, id: string, text: string) => JSON.stringify([place, id]) + text
  const places = [namespace, ...alsoOf]

  const encoded = (place: string, id: string, text: string): string =>
    `${text},"mac":"${sign(signed(place, id, text))}"}`

  /** Whose the record is, when it is authentic, and whether it is so under the first key. */
  const check = (id: string, text: string) => {
    const found = authenticated.exec(text)
    if (found === null) return undefined
    const [{ length }, code = ""] = found
    const before = text.slice(0, -length)
    for (const place of places) {
      const { isAuthentic, isFirst } = verify(signed(place, id, before), code)
      if (isAuthentic) return { place, before, isFirst }
    }
    return undefined
  }

  return {
    encode: (id: string, state: CredentialState): string => encoded(namespace, id, encodeState(id, state).slice(0, -1)),

    /**
     * The record of an id: a hint, unless it is authentic and has the `generation` of the entry. None when the text is not a state. Its
     * `id` is the one in the text.
     */
    decode: (id: string, text: string, generation?: number): Option.Option<Decoded> =>
      Option.map(decodeState(text), (found) => {
        const isOfEntry = generation === undefined || generation === found.state.generation
        return isOfEntry && check(id, text) !== undefined ? found : { id: found.id, state: hintOf(found.state) }
      }),

    /**
     * The same record under the first key; `undefined` where it is so already, or is not authentic: that must not make it so.
     */
    reencode: (id: string, text: string): string | undefined => {
      const found = check(id, text)
      return found === undefined || found.isFirst ? undefined : encoded(found.place, id, found.before)
    }
  } as const
}

export type StateCodec = ReturnType<typeof makeStateCodec>
