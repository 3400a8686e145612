/**
 * The page behind `reauthorization_url`, in the role of a provider's consent screen.
 */
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import { ParsedSearchParams } from "effect/http/HttpServerRequest"
import * as Option from "effect/Option"
import { cleanText } from "../util/sanitize.ts"
import { html } from "./Html.ts"
import type { EmulatedIntegration, IntegrationRegistry } from "./IntegrationRegistry.ts"
import * as Page from "./page.ts"

/** The page's path, for a router. */
export const path = "/integrations/:integration_id/connect"

/** The path of an integration's page; it names the tenant unless that is the first one. */
export const connectPath = (integration: EmulatedIntegration, firstTenant: string): string =>
  `/integrations/${encodeURIComponent(integration.id.toWellFormed())}/connect` +
  (integration.tenantId === firstTenant ? "" : `?tenant=${encodeURIComponent(integration.tenantId.toWellFormed())}`)

/** `GET` shows the page, `POST` connects: a new token is issued. */
export const layer = (registry: IntegrationRegistry, firstTenant: string) =>
  HttpRouter.use((router) =>
    Page.add(router, path, {
      GET: Effect.map(requested(registry, firstTenant), Option.match({ onNone: unknown, onSome: consent })),
      POST: Effect.flatMap(
        requested(registry, firstTenant),
        Option.match({
          onNone: () => Effect.succeed(unknown()),
          onSome: (integration) => Effect.map(registry.connect(integration), connected)
        })
      )
    })
  )

/** The integration that the page is about. */
const requested = (registry: IntegrationRegistry, firstTenant: string) =>
  Effect.gen(function*() {
    const id = (yield* HttpRouter.params)["integration_id"] ?? ""
    const tenant = (yield* ParsedSearchParams)["tenant"]
    const tenantId = typeof tenant === "string" ? tenant : firstTenant
    const known = yield* registry.tenants
    return known.includes(tenantId) ? yield* registry.find(tenantId, id) : Option.none()
  })

const unknown = () => Page.message(404, "Unknown integration", html`<p>The emulator has no such integration.</p>`)

const consent = (integration: EmulatedIntegration) => {
  const account = integration.alias ?? integration.email
  const scopes = integration.scopes.map((scope) => html`<li><code>${Page.name(scope)}</code></li>`)
  return Page.respond({
    title: `Connect ${cleanText(integration.id)}`,
    body: html`
<body class="narrow">
<main>
<h1>Connect ${Page.name(integration.id)}</h1>
<p>An agent wants to use ${account === undefined ? "your account" : html`the account ${Page.name(account)}`} at
<b>${Page.name(integration.type)}</b>. It ${
      integration.status === "requires_reauth"
        ? html`<b class="bad">is not connected</b>`
        : html`<b class="good">is connected</b> already`
    }.</p>
${
      scopes.length === 0
        ? html`<p>It asks for no scopes.</p>`
        : html`<p id="scopes">It requests these scopes:</p><ul aria-labelledby="scopes">${scopes}</ul>`
    }
<form method="post"><button class="main">Connect</button></form>
<p class="quiet">This page stands in for the provider's own: nothing leaves this machine. Connecting issues a new token.</p>
${Page.consoleLink}
</main>
</body>`
  })
}

const connected = (integration: EmulatedIntegration) =>
  Page.message(
    200,
    "Connected",
    html`<p role="status"><b class="good">${Page.name(integration.id)} is connected.</b> The agent continues by itself.
You can close this page.</p>`
  )
