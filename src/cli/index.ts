/**
 * The `aden-creds` command, for Node: to run it in a program, and to decode what it prints with `--json`.
 *
 * @since 0.1.0
 * @module
 */
export { type AdenCredsEnvironment, runAdenCreds } from "./adenCreds.ts"
export {
  AdoptDocument,
  DeleteDocument,
  DoctorDocument,
  EmulatorDocument,
  ErrorDetails,
  ErrorDocument,
  ExplainDocument,
  HealthDocument,
  KeyDocument,
  KeyFileDocument,
  ListDocument,
  MigrateDocument,
  RefreshDocument,
  RotateDocument,
  SyncDocument,
  TokenDocument,
  ValidateDocument
} from "./documents.ts"
export { ExitStatus } from "./ExitStatus.ts"
