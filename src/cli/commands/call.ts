// `hoplite call ACTION`: every action of the API's table as a command, with its flags and help made from its schemas.

import { readFileSync } from 'node:fs'
import { type Command, InvalidArgumentError, Option } from 'commander'
import { z } from 'zod'
import { callAction } from '#api/client.ts'
import { HopliteError } from '#api/errors.ts'
import { ACTIONS, type ActionName, type Input } from '#api/table.ts'
import { socketPath, stateDirectory } from '#platform/state/directories.ts'

interface Property {
  readonly type?: string
  readonly description?: string
  readonly items?: { readonly type?: string }
  readonly enum?: readonly string[]
}

/** Adds a command below `parent` for each action. */
export function addCalls(parent: Command): void {
  for (const [name, { summary, input }] of Object.entries(ACTIONS)) {
    const command = parent
      .command(name)
      .description(summary)
      .option('--state-dir <dir>', 'keys, state and control socket')
      .option('--json', 'one line of JSON')
      .addHelpText(
        'after',
        '\nA text may be @FILE, or @- for standard input, so that it stands in no list of processes.',
      )
    const { properties = {}, required = [] } = z.toJSONSchema(input) as {
      properties?: Record<string, Property>
      required?: string[]
    }
    for (const [field, property] of Object.entries(properties))
      command.addOption(optionFor(field, property, required.includes(field)))
    command.action(async (flags: Record<string, unknown>) => {
      const fields = Object.keys(properties).filter(field => flags[field] !== undefined)
      const given = Object.fromEntries(fields.map(field => [field, flags[field]]))
      await call(name as ActionName, given, flags)
    })
  }
}

async function call(name: ActionName, given: unknown, flags: Record<string, unknown>): Promise<void> {
  const input = ACTIONS[name].input.safeParse(given)
  if (!input.success)
    throw new HopliteError(
      'REQUEST_INVALID',
      `${name}: ${z.prettifyError(input.error)}`,
      `see: hoplite call ${name} --help`,
    )
  const stateDir = typeof flags['stateDir'] === 'string' ? flags['stateDir'] : undefined
  const output = await callAction(socketPath(stateDirectory(stateDir)), name, input.data as Input<typeof name>)
  process.stdout.write(`${JSON.stringify(output, undefined, flags['json'] ? undefined : 2)}\n`)
}

function optionFor(field: string, property: Property, isRequired: boolean): Option {
  const { type, enum: choices, description, items } = property
  const meaning = `${description ?? ''}${isRequired ? ' (needed)' : ''}`.trim()
  const make = (value: string) => new Option(`--${field} ${value}`, meaning)
  if (type === 'boolean') return make('[true|false]').preset('true').argParser(asBoolean)
  if (type === 'array' && items?.type === 'string') return make('<text...>')
  const option = make(`<${type === 'string' ? 'text' : type === 'integer' || type === 'number' ? 'n' : 'JSON'}>`)
  if (choices !== undefined) option.choices(choices)
  else option.argParser(type === 'string' ? asText : asJson)
  return isRequired ? option.makeOptionMandatory() : option
}

/** What is secret stands in no list of processes. */
function asText(text: string): string {
  if (!text.startsWith('@')) return text
  const file = text.slice(1)
  try {
    return readFileSync(file === '-' ? 0 : file, 'utf8').replace(/\r?\n$/, '')
  } catch (error) {
    throw new InvalidArgumentError(`the file cannot be read: ${(error as NodeJS.ErrnoException).code}.`)
  }
}

function asBoolean(text: string): boolean {
  if (text === 'true') return true
  if (text === 'false') return false
  throw new InvalidArgumentError('true or false.')
}

function asJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw new InvalidArgumentError('a number, or JSON.')
  }
}
