/**
 * The state of a credential as JSON, with the id it belongs to.
 */
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { CredentialState } from "../../model/CredentialState.ts"

const StateRecord = Schema.fromJsonString(
  Schema.Struct({ id: Schema.optional(Schema.String), ...CredentialState.fields })
)

const decode = Schema.decodeUnknownOption(StateRecord)
const encode = Schema.encodeSync(StateRecord)

/** None when the text is not a state. Without an `id`, it belongs to the id that its file is named after. */
export const decodeState = (
  text: string
): Option.Option<{ readonly id: string | undefined; readonly state: CredentialState }> =>
  Option.map(decode(text), ({ id, ...state }) => ({ id, state: new CredentialState(state) }))

export const encodeState = (id: string, state: CredentialState): string => encode({ ...state, id })
