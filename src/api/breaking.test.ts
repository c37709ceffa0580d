import assert from 'node:assert/strict'
import test from 'node:test'
import { z } from 'zod'
import { breakingChanges } from './breaking.ts'
import { type OpenApiDocument, openApiDocument } from './openapi.ts'
import { ACTIONS } from './table.ts'

/** The document of one action after `change` was made to its JSON. */
function changed(change: (document: never) => void): OpenApiDocument {
  const document = structuredClone(openApiDocument(['setRoute', 'relays'])) as never
  change(document)
  return document
}

const before = openApiDocument(['setRoute', 'relays'])

function at(document: unknown, path: string): Record<string, unknown> {
  const keys = path.split('.').flatMap(key => (key === 'SCHEMA' ? ['content', 'application/json', 'schema'] : [key]))
  return keys.reduce((value, key) => value[key] as Record<string, unknown>, document as Record<string, unknown>)
}

test('the same document breaks nobody, and neither does what is added', () => {
  assert.deepEqual(breakingChanges(before, structuredClone(before)), [])
  assert.deepEqual(breakingChanges(before, openApiDocument()), [])
  const more = changed(document => {
    at(document, 'paths./v1/setRoute.post.requestBody.SCHEMA.properties')['country'] = { type: 'string' }
    at(document, 'paths./v1/relays.post.responses.200.SCHEMA.properties')['more'] = { type: 'number' }
    at(document, 'paths./v1/relays.post.responses.200.SCHEMA')['required'] = ['total', 'relays', 'hops', 'more']
  })
  assert.deepEqual(breakingChanges(before, more), [])
})

test('what is taken away, renamed, or asked for in addition is named', () => {
  const cases: [string, (document: never) => void, RegExp][] = [
    ['an action', document => delete at(document, 'paths')['/v1/relays'], /POST \/v1\/relays is gone/],
    ['an event', document => delete at(document, 'components.schemas')['event.rtt'], /event\.rtt is gone/],
    [
      'an input',
      document => delete at(document, 'paths./v1/setRoute.post.requestBody.SCHEMA.properties')['hops'],
      /input: hops is gone/,
    ],
    [
      'a new duty',
      document => (at(document, 'paths./v1/setRoute.post.requestBody.SCHEMA')['required'] = ['hops']),
      /hops is required now/,
    ],
    [
      'a choice',
      document => (at(document, 'paths./v1/relays.post.requestBody.SCHEMA.properties.role')['enum'] = ['exit']),
      /guard, middle, peer is refused now/,
    ],
    [
      'an output',
      document => delete at(document, 'paths./v1/relays.post.responses.200.SCHEMA.properties')['total'],
      /output: total is gone/,
    ],
    [
      'a type deep inside',
      document => {
        const inner = 'paths./v1/relays.post.responses.200.SCHEMA.properties.relays.items.properties.id'
        at(document, inner)['type'] = 'number'
      },
      /relays\[\]\.id: it was string and is number/,
    ],
    [
      'a promise',
      document => (at(document, 'paths./v1/relays.post.responses.200.SCHEMA')['required'] = []),
      /may be missing/,
    ],
    [
      'a bound',
      document => (at(document, 'paths./v1/setRoute.post.requestBody.SCHEMA.properties.hops')['maximum'] = 2),
      /hops: maximum is 2 now/,
    ],
    [
      'a pattern',
      document => (at(document, 'paths./v1/setRoute.post.requestBody.SCHEMA.properties.exit')['pattern'] = '^a$'),
      /exit: it has another pattern now/,
    ],
    [
      'any value but some',
      document => (at(document, 'paths./v1/setRoute.post.requestBody.SCHEMA.properties.exit')['enum'] = ['a']),
      /exit: only some values are taken now/,
    ],
    ['a right', document => (at(document, 'paths./v1/relays.post')['x-permission'] = 'owner'), /asks for more rights/],
  ]
  for (const [name, change, expected] of cases) {
    const broken = breakingChanges(before, changed(change))
    assert.match(broken.join('; '), expected, name)
  }
})

test('of values that may be of several kinds, none is refused where it was taken and none is new where it is given', () => {
  const [check, log] = [openApiDocument(['settings.check']), openApiDocument(['activity'])]
  const schemas = (document: OpenApiDocument) => document.components['schemas'] as Record<string, { anyOf: unknown[] }>
  const fewer = structuredClone(check)
  schemas(fewer)['input.settings.check.__schema0']?.anyOf.pop()
  assert.match(breakingChanges(check, fewer).join(), /of several kinds, 1 are refused now/)
  assert.deepEqual(breakingChanges(fewer, check), [], 'more may be taken')
  const more = structuredClone(log)
  const fields = 'paths./v1/activity.post.responses.200.SCHEMA.properties.lines.items.properties.fields'
  at(more, `${fields}.additionalProperties`)['type'] = ['number', 'boolean', 'string', 'null']
  assert.match(breakingChanges(log, more).join(), /lines\[\]\.fields\.\*: it was number,boolean,string and is/)
})

test('whatever the document refers to is in it', () => {
  const document = openApiDocument()
  const references = [...JSON.stringify(document).matchAll(/"\$ref":"#\/([^"]+)"/g)].map(([, path = '']) => path)
  assert.ok(references.some(path => path.startsWith('components/schemas/input.')))
  for (const path of new Set(references)) {
    const found = path.split('/').reduce<unknown>((value, key) => (value as Record<string, unknown>)[key], document)
    assert.equal(typeof found, 'object', path)
  }
})

test('every input says what it means: help and documents are made of it', () => {
  for (const [name, { input }] of Object.entries(ACTIONS)) {
    const { properties = {} } = z.toJSONSchema(input) as { properties?: Record<string, { description?: string }> }
    for (const [field, { description }] of Object.entries(properties))
      assert.ok(description !== undefined && description.length > 3, `${name}: ${field}`)
  }
})
