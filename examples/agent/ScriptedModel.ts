/**
 * A language model that follows a script, and records every message that it was sent. A program of your own has the layer of a
 * real model here.
 */
import { Context, Effect, Layer, Stream } from "effect"
import { LanguageModel, type Response } from "effect/ai"

export type Step =
  | { readonly say: string }
  | { readonly call: string; readonly with: Readonly<Record<string, unknown>> }

/** Everything that the model was sent, as JSON: messages, results of tools, descriptions of tools. */
export class Transcript extends Context.Service<Transcript, {
  readonly messages: ReadonlyArray<string>
}>()("example/Transcript") {}

export const ScriptedModel = (script: ReadonlyArray<Step>) =>
  Layer.effectContext(Effect.gen(function*() {
    const messages: Array<string> = []
    const model = yield* LanguageModel.make({
      generateText: ({ prompt, tools }) =>
        Effect.sync(() => {
          const step = script[messages.length] ?? { say: "I have nothing more to say." }
          messages.push(JSON.stringify({ prompt, tools }))
          return partsOf(step, `call-${messages.length}`)
        }),
      streamText: () => Stream.empty
    })
    return Context.make(LanguageModel.LanguageModel, model).pipe(Context.add(Transcript, { messages }))
  }))

const partsOf = (step: Step, id: string): Array<Response.PartEncoded> =>
  "say" in step
    ? [{ type: "text", text: step.say }]
    : [{ type: "tool-call", id, name: step.call, params: step.with }]
