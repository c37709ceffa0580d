// What would break programs that were written against an earlier OpenAPI document. Adding is allowed: an action, an event,
// an optional input, a field of an output. Taking away, renaming, and asking for more are not.

import type { OpenApiDocument } from './openapi.ts'

interface Schema {
  readonly type?: string
  readonly pattern?: string
  readonly minimum?: number
  readonly maximum?: number
  readonly minLength?: number
  readonly maxLength?: number
  readonly minItems?: number
  readonly maxItems?: number
  readonly anyOf?: readonly Schema[]
  readonly additionalProperties?: Schema | boolean
  readonly properties?: Readonly<Record<string, Schema>>
  readonly required?: readonly string[]
  readonly enum?: readonly unknown[]
  readonly items?: Schema
}

/** Says each difference from `before` to `after` that breaks somebody; none means that all programs go on working. */
export function breakingChanges(before: OpenApiDocument, after: OpenApiDocument): string[] {
  const broken: string[] = []
  for (const [path, methods] of Object.entries(before.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const now = after.paths[path]?.[method]
      if (now === undefined) broken.push(`${method.toUpperCase()} ${path} is gone`)
      else broken.push(...operationChanges(path, operation, now))
    }
  }
  const events = (document: OpenApiDocument) => document.components['schemas'] as Readonly<Record<string, Schema>>
  for (const [name, schema] of Object.entries(events(before))) {
    const now = events(after)[name]
    if (now === undefined) broken.push(`${name} is gone`)
    else broken.push(...(name.startsWith('input.') ? inputChanges : outputChanges)(name, schema, now))
  }
  return broken
}

function operationChanges(path: string, before: unknown, after: unknown): string[] {
  const broken: string[] = []
  const rank = ['read', 'write', 'person', 'owner']
  const permission = (operation: unknown) =>
    rank.indexOf((operation as { 'x-permission'?: string })['x-permission'] ?? '')
  if (permission(after) > permission(before)) broken.push(`${path} asks for more rights`)
  const input = (operation: unknown) => schemaAt(operation, ['requestBody', 'content', 'application/json', 'schema'])
  const output = (operation: unknown) =>
    schemaAt(operation, ['responses', '200', 'content', 'application/json', 'schema'])
  broken.push(...inputChanges(`${path} input`, input(before), input(after)))
  broken.push(...outputChanges(`${path} output`, output(before), output(after)))
  return broken
}

function schemaAt(value: unknown, path: readonly string[]): Schema {
  return path.reduce<unknown>((at, key) => (at as Record<string, unknown> | undefined)?.[key], value) ?? {}
}

/** What was accepted must go on being accepted. */
function inputChanges(where: string, before: Schema, after: Schema): string[] {
  const broken = typeChange(where, before, after)
  for (const name of after.required ?? [])
    if (!before.required?.includes(name)) broken.push(`${where}: ${name} is required now`)
  for (const [name, schema] of Object.entries(before.properties ?? {})) {
    const now = after.properties?.[name]
    if (now === undefined) broken.push(`${where}: ${name} is gone`)
    else broken.push(...inputChanges(`${where}.${name}`, schema, now))
  }
  if (before.enum === undefined && after.enum !== undefined) broken.push(`${where}: only some values are taken now`)
  const gone = (before.enum ?? []).filter(value => after.enum !== undefined && !after.enum.includes(value))
  if (gone.length > 0) broken.push(`${where}: ${gone.join(', ')} is refused now`)
  broken.push(...narrowed(where, before, after))
  const kinds = (before.anyOf ?? []).filter(kind => !isAmong(kind, after))
  if (kinds.length > 0) broken.push(`${where}: of several kinds, ${kinds.length} are refused now`)
  const [values, now] = [before.additionalProperties, after.additionalProperties]
  if (isSchema(values) && isSchema(now)) broken.push(...inputChanges(`${where}.*`, values, now))
  if (before.items !== undefined && after.items !== undefined)
    broken.push(...inputChanges(`${where}[]`, before.items, after.items))
  return broken
}

/** What was given must go on being given. */
function outputChanges(where: string, before: Schema, after: Schema): string[] {
  const broken = typeChange(where, before, after)
  for (const name of before.required ?? [])
    if (!after.required?.includes(name)) broken.push(`${where}: ${name} may be missing now`)
  for (const [name, schema] of Object.entries(before.properties ?? {})) {
    const now = after.properties?.[name]
    if (now === undefined) broken.push(`${where}: ${name} is gone`)
    else broken.push(...outputChanges(`${where}.${name}`, schema, now))
  }
  if (before.items !== undefined && after.items !== undefined)
    broken.push(...outputChanges(`${where}[]`, before.items, after.items))
  if (before.anyOf !== undefined && after.anyOf !== undefined) {
    const kinds = after.anyOf.filter(kind => !isAmong(kind, before))
    if (kinds.length > 0) broken.push(`${where}: it may be of ${kinds.length} more kinds now`)
  }
  const [values, now] = [before.additionalProperties, after.additionalProperties]
  if (isSchema(values) && isSchema(now)) broken.push(...outputChanges(`${where}.*`, values, now))
  return broken
}

/** Bounds of an input that let less through than before. */
function narrowed(where: string, before: Schema, after: Schema): string[] {
  const broken: string[] = []
  for (const most of ['maximum', 'maxLength', 'maxItems'] as const)
    if ((after[most] ?? Infinity) < (before[most] ?? Infinity)) broken.push(`${where}: ${most} is ${after[most]} now`)
  for (const least of ['minimum', 'minLength', 'minItems'] as const)
    if ((after[least] ?? -Infinity) > (before[least] ?? -Infinity))
      broken.push(`${where}: ${least} is ${after[least]} now`)
  if (after.pattern !== undefined && after.pattern !== before.pattern)
    broken.push(`${where}: it has another pattern now`)
  return broken
}

/** Whether a schema has this kind, word for word; a schema of one kind is its only one. */
function isAmong(kind: Schema, { anyOf, ...alone }: Schema): boolean {
  return (anyOf ?? [alone]).some(other => JSON.stringify(other) === JSON.stringify(kind))
}

function isSchema(value: Schema | boolean | undefined): value is Schema {
  return typeof value === 'object'
}

function typeChange(where: string, before: Schema, after: Schema): string[] {
  const isSame = JSON.stringify(before.type) === JSON.stringify(after.type)
  return isSame ? [] : [`${where}: it was ${before.type ?? 'anything'} and is ${after.type ?? 'anything'}`]
}
