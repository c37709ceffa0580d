// The configuration file for a person who does not edit files: every key with what it must be, what it means, what the node
// runs with and what the file says; checked as a whole before anything is written.

import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { parse } from 'smol-toml'
import { HopliteError } from '#api/errors.ts'
import type { Input, Output } from '#api/table.ts'
import { mayReplace, writeOwnersFile } from '#platform/state/state-file.ts'
import { type Config, configJsonSchema, configKeys, configProblems, loadConfig } from './config.ts'
import { editToml, type TomlValue } from './toml-edit.ts'

type Field = Output<'settings'>['fields'][number]
type Json = Field['value']
type Values = Input<'settings.check'>['values']
/** A configuration by section and key. */
type Sections = Record<string, Record<string, Json>>
type Problem = Output<'settings.check'>['problems'][number]

interface Schema {
  readonly type?: string
  readonly enum?: readonly string[]
  readonly minimum?: number
  readonly maximum?: number
  readonly items?: Schema
  readonly properties?: Readonly<Record<string, Schema>>
}

/** Keys that hold at once, without anything being dropped, and what makes them hold. */
export type LiveKeys = Readonly<Record<string, (config: Config) => void>>

export class Settings {
  readonly #running: Sections
  readonly #file: string
  readonly #live: LiveKeys
  /** What the file said when it was read last. */
  #known: Sections

  /** @param config what the node runs with; @param file where the file is or would be made */
  constructor(config: Config, file: string, live: LiveKeys = {}) {
    this.#running = structuredClone(config) as unknown as Sections
    this.#file = file
    this.#live = live
    this.#known = existsSync(file) ? (loadConfig(file) as unknown as Sections) : this.#running
  }

  describe(): Output<'settings'> {
    const schema = configJsonSchema() as Schema
    const meanings = readMeanings()
    const inFile = this.#parsed()
    const fields = [...configKeys()].map(([name, standard]): Field => {
      const [section = '', key = ''] = name.split('.')
      const said = inFile[section]?.[key]
      return {
        key: name,
        ...formOf(schema.properties?.[section]?.properties?.[key] ?? {}),
        default: standard as Json,
        value: this.#running[section]?.[key] ?? null,
        ...(said !== undefined && { inFile: said }),
        meaning: meanings.get(name) ?? '',
      }
    })
    return {
      file: this.#file,
      exists: existsSync(this.#file),
      ...(!mayReplace(this.#file) && {
        problem: `this node may not write ${this.#file}`,
        advice: 'change the file as its owner, then run: hoplite reload',
      }),
      fields,
    }
  }

  check(values: Values): Problem[] {
    const unknown = Object.keys(values).filter(key => !configKeys().has(key))
    if (unknown.length > 0) return unknown.slice(0, 10).map(key => ({ key, message: 'there is no such key' }))
    const changed: Record<string, Record<string, unknown>> = { ...this.#parsed() }
    for (const [name, value] of Object.entries(values)) {
      const [section = '', key = ''] = name.split('.')
      const { [key]: _, ...others } = changed[section] ?? {}
      changed[section] = value === null ? others : { ...others, [key]: value }
    }
    return configProblems(changed)
  }

  /**
   * Reads the file again, and says which keys changed since: those that hold from now on, and those that wait for the next
   * start. Throws CONFIG_UNREADABLE or CONFIG_INVALID; then everything stays as it was.
   */
  reload(): Output<'reload'> {
    const config = loadConfig(existsSync(this.#file) ? this.#file : undefined)
    const now = config as unknown as Sections
    const changed = [...configKeys().keys()].filter(name => {
      const [section = '', key = ''] = name.split('.')
      return JSON.stringify(now[section]?.[key]) !== JSON.stringify(this.#known[section]?.[key])
    })
    this.#known = now
    const applied = changed.filter(name => name in this.#live)
    for (const name of applied) {
      const [section = '', key = ''] = name.split('.')
      this.#live[name]?.(config)
      const values = this.#running[section]
      if (values !== undefined) values[key] = now[section]?.[key] ?? null
    }
    return { applied, later: changed.filter(name => !applied.includes(name)) }
  }

  /** Writes what is right, and nothing at all when there is a problem; then reads it again. Throws STATE_UNREADABLE. */
  save(values: Values): Output<'settings.save'> {
    const problems = this.check(values)
    if (problems.length > 0) return { file: this.#file, problems }
    let text = this.#text()
    for (const [name, value] of Object.entries(values)) {
      const [section = '', key = ''] = name.split('.')
      text = editToml(text, section, key, value as TomlValue)
    }
    mkdirSync(path.dirname(this.#file), { recursive: true })
    writeOwnersFile(this.#file, text)
    return { file: this.#file, problems: [], ...this.reload() }
  }

  #text(): string {
    return existsSync(this.#file) ? readFileSync(this.#file, 'utf8') : ''
  }

  #parsed(): Sections {
    try {
      return parse(this.#text()) as Sections
    } catch (error) {
      const advice = 'mend the file by hand: it was changed since the node started'
      throw new HopliteError('CONFIG_INVALID', `read ${this.#file}: it is no TOML now`, advice, error)
    }
  }
}

function formOf(schema: Schema): Pick<Field, 'kind' | 'min' | 'max' | 'choices'> {
  if (schema.enum !== undefined) return { kind: 'choice', choices: [...schema.enum] }
  if (schema.type === 'boolean') return { kind: 'boolean' }
  if (schema.type === 'integer' || schema.type === 'number')
    return {
      kind: 'number',
      ...(schema.minimum !== undefined && { min: schema.minimum }),
      ...(schema.maximum !== undefined && { max: schema.maximum }),
    }
  if (schema.type === 'array') return { kind: schema.items?.type === 'string' ? 'list' : 'structure' }
  return { kind: schema.type === 'object' ? 'structure' : 'text' }
}

/** What docs/configuration.md says of each key: the one place where it is written. */
function readMeanings(): Map<string, string> {
  const meanings = new Map<string, string>()
  let section = ''
  for (const line of readDocument().split('\n')) {
    section = /^## \[([a-z]+)\]$/.exec(line)?.[1] ?? section
    const [, key, meaning] = /^\| `([a-z_]+)` \| `.+?` \| (.+) \|$/.exec(line) ?? []
    if (key !== undefined && meaning !== undefined) meanings.set(`${section}.${key}`, meaning)
  }
  return meanings
}

function readDocument(): string {
  try {
    return readFileSync(new URL('../../docs/configuration.md', import.meta.url), 'utf8')
  } catch {
    return ''
  }
}
