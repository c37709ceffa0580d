// Every action with input that its schema does not allow, made from the schema: always 400 with a text that says where.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import { z } from 'zod'
import { serveApi } from './server.ts'
import { ACTIONS, type Handlers } from './table.ts'

interface Schema {
  readonly type?: string
  readonly properties?: Readonly<Record<string, Schema>>
  readonly required?: readonly string[]
  readonly enum?: readonly unknown[]
  readonly minimum?: number
  readonly maximum?: number
  readonly maxLength?: number
  readonly pattern?: string
}

/** Values of every kind; those that a schema allows are left out. */
const STRANGE: readonly unknown[] = [
  ...[null, true, 0, -1, 1.5, 1e308, '', 'x', '\u0000', 'x'.repeat(20_000)],
  ...[[], [[]], {}, { a: 1 }, Array.from({ length: 5_000 }, (_, i) => i), nested(2_000)],
]

function nested(depth: number): unknown {
  let value: unknown = 0
  for (let i = 0; i < depth; i++) value = [value]
  return value
}

/** Inputs that `schema` does not allow. */
function wrongInputs(schema: z.ZodType): unknown[] {
  const { properties = {}, required = [] } = z.toJSONSchema(schema) as Schema
  const right = Object.fromEntries(required.map(name => [name, rightValue(properties[name] ?? {})]))
  const candidates = [
    ...STRANGE.filter(value => typeof value !== 'object' || Array.isArray(value) || value === null),
    ...required.map(name => Object.fromEntries(Object.entries(right).filter(([key]) => key !== name))),
    { ...right, surplus: 1 },
    { ...right, constructor: 1 },
    JSON.parse('{"__proto__": {"polluted": true}, "surplus": 1}'),
    Object.fromEntries(Array.from({ length: 3_000 }, (_, i) => [`k${i}`, i])),
    ...Object.keys(properties).flatMap(name => STRANGE.map(value => ({ ...right, [name]: value }))),
  ]
  return candidates.filter(input => !schema.safeParse(input).success)
}

function rightValue(schema: Schema): unknown {
  if (schema.enum !== undefined) return schema.enum[0]
  if (schema.type === 'number' || schema.type === 'integer') return schema.minimum ?? 0
  if (schema.type === 'boolean') return true
  return schema.type === 'string' ? 'x'.repeat(16) : {}
}

async function serve(t: TestContext): Promise<string> {
  const directory = mkdtempSync(path.join(tmpdir(), 'hoplite-hostile-'))
  const reached = () => {
    throw new Error('the handler was reached')
  }
  const handlers = Object.fromEntries(Object.keys(ACTIONS).map(name => [name, reached])) as Handlers
  const socket = path.join(directory, 'control.sock')
  const server = await serveApi(handlers, socket)
  t.after(async () => {
    await server.close()
    rmSync(directory, { recursive: true })
  })
  return socket
}

function post(socketPath: string, name: string, body: string): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const sent = request({ socketPath, path: `/v1/${name}`, method: 'POST', agent: false }, response => {
      let text = ''
      response.on('data', chunk => (text += String(chunk)))
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text }))
    })
    sent.on('error', reject)
    sent.end(body)
  })
}

test('missing, extra, huge and wrong input is refused with 400 and a text that helps', async t => {
  const socket = await serve(t)
  let asked = 0
  for (const [name, { input }] of Object.entries(ACTIONS)) {
    for (const wrong of wrongInputs(input)) {
      const body = JSON.stringify(wrong)
      const { status, text } = await post(socket, name, body)
      asked++
      const { error } = JSON.parse(text) as { error: { code: string; message: string; advice: string } }
      const told = `${name} ${body.slice(0, 80)}: ${status} ${text.slice(0, 200)}`
      assert.equal(status, 400, told)
      assert.equal(error.code, 'REQUEST_INVALID', told)
      assert.ok(error.message.length > 20 && error.message.length < 1_500 && error.advice.length > 5, told)
      assert.doesNotMatch(text, /at .*\.ts|node:|Error:/, told)
    }
  }
  assert.ok(asked > 300, `${asked} requests`)
  assert.equal(({} as Record<string, unknown>)['polluted'], undefined)
})

test('what is nested very deep is refused before anything looks at it', async t => {
  const socket = await serve(t)
  const deep = `${'['.repeat(30_000)}${']'.repeat(30_000)}`
  for (const body of [deep, `{"values":{"client.hops":${deep}}}`, '{"a":'.repeat(10_000)]) {
    const { status, text } = await post(socket, 'settings.check', body)
    assert.equal(status, 400)
    assert.match(text, /nested too deep/)
  }
  const { text } = await post(socket, 'settings.check', `{"surplus":"${'['.repeat(100)}"}`)
  assert.match(text, /surplus/)
})
