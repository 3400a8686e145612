/**
 * The `aden-creds` command, for Node: to run in a program, and to read what it prints with `--json`.
 *
 * @since 0.1.0
 */
export { type AdenCredsEnvironment, runAdenCreds } from "./adenCreds.ts"
export {
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
