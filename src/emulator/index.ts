/**
 * An Aden server to develop and test against, for Node.
 *
 * @since 0.1.0
 * @module
 */
export {
  AdenEmulator,
  type AdenEmulatorOptions,
  defaultApiKey,
  defaultIntegrations,
  type OfTenant
} from "./AdenEmulator.ts"
export type { Dialect } from "./adenHandlers.ts"
export { Fault } from "./Fault.ts"
export type { FaultMatch } from "./FaultPlan.ts"
export type {
  EmulatedIntegration,
  IntegrationOptions,
  IntegrationStatus,
  IssuedToken,
  TenantOptions
} from "./IntegrationRegistry.ts"
export type { EmulatorEndpoint, EmulatorRequest, InFlight, RequestMatch } from "./RequestLog.ts"
export type { UsageRecord } from "./UsageLedger.ts"
