// The OpenAPI 3.1 document of the table, or of the part of it that a node offers.

import { z } from 'zod'
import type { Permission } from './action.ts'
import { ACTIONS, type ActionName, EVENTS } from './table.ts'

/** The version in every path. It changes when a published shape breaks. */
export const API_VERSION = 'v1'

const ERROR = {
  type: 'object',
  required: ['error'],
  properties: {
    error: {
      type: 'object',
      required: ['code', 'message', 'advice'],
      properties: { code: { type: 'string' }, message: { type: 'string' }, advice: { type: 'string' } },
    },
  },
}

/** What no token may, and who may. */
const ALONE: Readonly<Partial<Record<Permission, string>>> = {
  person: 'For a person who is signed in at the dashboard, or on the command line; no token may.',
  owner: 'On the command line alone; no token may.',
}

/** JSON values of the document, as far as readers of it need to know. */
export interface OpenApiDocument {
  readonly openapi: '3.1.0'
  readonly info: { readonly title: string; readonly version: string; readonly description: string }
  readonly paths: Readonly<Record<string, Readonly<Record<string, unknown>>>>
  readonly components: Readonly<Record<string, unknown>>
}

/** Makes the document of these actions and of every event. */
export function openApiDocument(names: readonly ActionName[] = Object.keys(ACTIONS) as ActionName[]): OpenApiDocument {
  return {
    openapi: '3.1.0',
    info: {
      title: 'Hoplite',
      version: API_VERSION,
      description: 'The actions and events of a running node. Errors are listed in docs/errors.md.',
    },
    paths: {
      ...Object.fromEntries(names.map(name => [`/${API_VERSION}/${name}`, { post: operation(name) }])),
      [`/${API_VERSION}/events`]: { get: eventStream() },
    },
    components: {
      schemas: {
        Error: ERROR,
        ...Object.fromEntries(
          Object.values(EVENTS).map(({ name, data }) => [`event.${name}`, schemaOf(data, `event.${name}.`)]),
        ),
        ...Object.fromEntries(names.flatMap(name => partsOf(ACTIONS[name].input, `input.${name}.`))),
        ...Object.fromEntries(names.flatMap(name => partsOf(ACTIONS[name].output, `output.${name}.`))),
        ...Object.fromEntries(Object.values(EVENTS).flatMap(({ name, data }) => partsOf(data, `event.${name}.`))),
      },
      securitySchemes: { token: { type: 'http', scheme: 'bearer' } },
    },
  }
}

function operation(name: ActionName): Record<string, unknown> {
  const { summary, permission, input, output } = ACTIONS[name]
  return {
    operationId: name,
    summary,
    ...(ALONE[permission] !== undefined && { description: ALONE[permission] }),
    'x-permission': permission,
    security: [{ token: [permission] }],
    requestBody: { required: true, content: { 'application/json': { schema: schemaOf(input, `input.${name}.`) } } },
    responses: {
      '200': { description: 'Done', content: { 'application/json': { schema: schemaOf(output, `output.${name}.`) } } },
      default: {
        description: 'Not done',
        content: { 'application/json': { schema: { $ref: '#/components/schemas/Error' } } },
      },
    },
  }
}

function eventStream(): Record<string, unknown> {
  const told = Object.values(EVENTS).map(({ name, summary }) => `\`${name}\`: ${summary}.`)
  return {
    operationId: 'events',
    summary: 'Events as they happen (server-sent events)',
    description: `Each has the schema \`event.NAME\`. ${told.join(' ')}`,
    security: [{ token: ['read'] }],
    responses: { '200': { description: 'A stream without end', content: { 'text/event-stream': {} } } },
  }
}

function schemaOf(schema: z.ZodType, name: string): unknown {
  const { $schema: _, $defs: _defs, ...rest } = z.toJSONSchema(schema, { target: 'draft-2020-12' })
  return withRefs(rest, name)
}

/** What a schema refers to, by its name in the document; a reference begins at the document's root, not at its schema's. */
function partsOf(schema: z.ZodType, name: string): [string, unknown][] {
  const { $defs = {} } = z.toJSONSchema(schema, { target: 'draft-2020-12' })
  return Object.entries($defs).map(([part, inner]) => [`${name}${part}`, withRefs(inner, name)])
}

function withRefs(schema: unknown, name: string): unknown {
  return JSON.parse(JSON.stringify(schema).replaceAll('"#/$defs/', `"#/components/schemas/${name}`))
}
