/**
 * The page behind `reauthorization_url`: what a provider's consent screen would be.
 */
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import { HttpServerRequest, ParsedSearchParams } from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Option from "effect/Option"
import type { EmulatedIntegration, IntegrationRegistry } from "./IntegrationRegistry.ts"

/** The page's path, for a router. */
export const path = "/integrations/:integration_id/connect"

/** The path of an integration's page; the tenant is named where it is not the first one. */
export const connectPath = (integration: EmulatedIntegration, firstTenant: string): string =>
  `/integrations/${encodeURIComponent(integration.id)}/connect` +
  (integration.tenantId === firstTenant ? "" : `?tenant=${encodeURIComponent(integration.tenantId)}`)

/** `GET` shows the page, `POST` connects: a new token is issued. */
export const layer = (registry: IntegrationRegistry, firstTenant: string) =>
  HttpRouter.use(Effect.fnUntraced(function*(router) {
    yield* router.add("GET", path, page(registry, firstTenant, Effect.succeed))
    yield* router.add("POST", path, page(registry, firstTenant, registry.connect))
  }))

const page = (
  registry: IntegrationRegistry,
  firstTenant: string,
  act: (integration: EmulatedIntegration) => Effect.Effect<EmulatedIntegration>
) =>
  Effect.gen(function*() {
    const id = (yield* HttpRouter.params)["integration_id"] ?? ""
    const tenant = (yield* ParsedSearchParams)["tenant"]
    const known = yield* registry.tenants
    const tenantId = typeof tenant === "string" ? tenant : firstTenant
    const found = known.includes(tenantId) ? yield* registry.find(tenantId, id) : Option.none()
    if (Option.isNone(found)) {
      return html(404, "Unknown integration", `<p>The emulator has no integration <b>${escape(id)}</b>.</p>`)
    }
    const integration = yield* act(found.value)
    const { method } = yield* HttpServerRequest
    const account = integration.alias ?? integration.email
    const state = integration.status === "requires_reauth" ? "needs to be connected" : "is connected"
    return html(
      200,
      `Connect ${integration.type}`,
      `<p><b>${escape(integration.id)}</b>${account === undefined ? "" : ` (${escape(account)})`} ` +
        `${method === "POST" ? "is connected. You can close this page" : state}.</p>` +
        `<p>Scopes: ${integration.scopes.length === 0 ? "none" : escape(integration.scopes.join(", "))}</p>` +
        (method === "POST" ? "" : `<form method="post"><button>Connect</button></form>`)
    )
  })

const escape = (text: string): string => text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`)

const html = (status: number, title: string, body: string) =>
  HttpServerResponse.text(
    `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">` +
      `<title>${escape(title)}</title><style>body{font:1rem/1.5 system-ui;margin:4rem auto;max-width:30rem}</style>` +
      `<h1>${escape(title)}</h1>${body}</html>\n`,
    {
      status,
      contentType: "text/html; charset=utf-8",
      headers: {
        "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'",
        "cache-control": "no-store"
      }
    }
  )
