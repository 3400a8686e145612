/**
 * An agent whose tools use a credential without seeing it or showing it to the model.
 */
import { CredentialHttpClient, type CredentialUseFailure } from "aden-credentials"
import { Context, Effect, Layer, Schema } from "effect"
import { Chat, Tool, Toolkit } from "effect/ai"
import { HttpClient, type HttpClientError, HttpClientResponse } from "effect/http"

const Contact = Schema.Struct({ id: Schema.String, name: Schema.String })

/** What a tool tells the model when it fails: only texts of this program, never those of a server. */
const Failure = Schema.String

const SearchContacts = Tool.make("SearchContacts", {
  description: "Searches the CRM for contacts by name",
  parameters: Schema.Struct({ query: Schema.String }),
  success: Schema.Array(Contact),
  failure: Failure,
  // the model is told of a failure and continues
  failureMode: "return"
})

const OpenContact = Tool.make("OpenContact", {
  description: "Opens a contact by its address in the CRM",
  parameters: Schema.Struct({ url: Schema.String }),
  success: Contact,
  failure: Failure,
  failureMode: "return"
})

export const CrmTools = Toolkit.make(SearchContacts, OpenContact)

/** The reader of what is not for the model. */
export class Person extends Context.Service<Person, {
  readonly tell: (message: string) => Effect.Effect<void>
}>()("example/Person") {}

/** The tools, over an `HttpClient` that carries the credential. They know the CRM's address and nothing else. */
export const crmTools = (crm: string) =>
  CrmTools.toLayer(Effect.gen(function*() {
    const http = yield* HttpClient.HttpClient
    const person = yield* Person
    const get = <S extends Schema.Constraint>(schema: S, url: string, urlParams: Record<string, string> = {}) =>
      http.get(url, { urlParams }).pipe(
        Effect.flatMap(HttpClientResponse.filterStatusOk),
        Effect.flatMap(HttpClientResponse.schemaBodyJson(schema)),
        CredentialHttpClient.unwrapFailure,
        Effect.tapErrorTag("ReauthRequired", (error) => person.tell(error.message)),
        Effect.mapError(forModel)
      )
    return CrmTools.of({
      SearchContacts: Effect.fn("CrmTools.SearchContacts")(({ query }) =>
        get(Schema.Array(Contact), `${crm}/contacts`, { query })
      ),
      OpenContact: Effect.fn("CrmTools.OpenContact")(({ url }) => get(Contact, url))
    })
  }))

/**
 * What the model is told. Error messages are for a person: they contain addresses that a server chose, and the text of a server
 * must not become part of a prompt.
 */
const forModel = (error: HttpClientError.HttpClientError | CredentialUseFailure | Schema.SchemaError): string => {
  switch (error._tag) {
    case "ReauthRequired":
      return "The CRM has to be connected again by a person, who was told how. Do not try again."
    case "CredentialHostDenied":
      return "That address does not belong to the CRM."
    case "HttpClientError":
      return error.reason._tag === "StatusCodeError"
        ? `The CRM answered with status ${error.reason.response.status}.`
        : "The CRM could not be reached."
    case "SchemaError":
      return "The CRM answered what this tool does not understand."
    default:
      return error.isRetryable ? "The CRM is not available now. Try later." : "This tool cannot use the CRM."
  }
}

/** Lets the model use the tools until it answers. */
export const answer = Effect.fn("agent.answer")(function*(question: string) {
  const chat = yield* Chat.fromPrompt([
    { role: "system", content: "You answer questions about contacts in the CRM." },
    { role: "user", content: question }
  ])
  const toolkit = yield* CrmTools
  for (;;) {
    const response = yield* chat.generateText({ prompt: [], toolkit })
    if (response.toolCalls.length === 0) return response.text
  }
})

/** The tools with the credential they need: it goes to the CRM and nowhere else, and is masked where the CRM repeats it. */
export const CrmToolsWithCredential = (crm: string) =>
  crmTools(crm).pipe(
    Layer.provide(CredentialHttpClient.layer({ ref: "hubspot", allowedHosts: [new URL(crm).host], echo: "mask" }))
  )
