/**
 * The file beside a credential: what is remembered about it, and whose it is.
 */
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { CredentialState } from "../../model/CredentialState.ts"

const StoredState = Schema.fromJsonString(
  Schema.Struct({ id: Schema.optional(Schema.String), ...CredentialState.fields })
)

const decode = Schema.decodeUnknownOption(StoredState)
const encode = Schema.encodeSync(StoredState)

/** None when the text is no state. Without an id in it, it is that of whom the file is named after. */
export const decodeState = (
  text: string
): Option.Option<{ readonly id: string | undefined; readonly state: CredentialState }> =>
  Option.map(decode(text), ({ id, ...state }) => ({ id, state: new CredentialState(state) }))

export const encodeState = (id: string, state: CredentialState): string => encode({ ...state, id })
