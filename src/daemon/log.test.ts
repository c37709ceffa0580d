import assert from 'node:assert/strict'
import { Writable } from 'node:stream'
import test from 'node:test'
import { defaultConfig } from './config.ts'
import { type Level, openLog, own } from './log.ts'

function record(level: Level, isTTY: boolean) {
  const lines: string[] = []
  const stream = new Writable({
    write: (chunk, _, done) => {
      lines.push(String(chunk))
      done()
    },
  })
  const log = openLog(
    { ...defaultConfig(), log: { ...defaultConfig().log, level } },
    'relay',
    Object.assign(stream, { isTTY }) as never,
  )
  return { log, lines }
}

test('where no person reads, a line is one JSON object', () => {
  const { log, lines } = record('info', false)
  log.info('relay is up', { id: own('ab"\n'), exit: true, sessions: 3, absent: undefined })
  const { time, ...rest } = JSON.parse(lines[0] ?? '') as Record<string, unknown>
  assert.match(String(time), /^\d{4}-.*Z$/)
  assert.deepEqual(rest, {
    level: 'info',
    component: 'relay',
    event: 'relay is up',
    id: 'ab"\n',
    exit: true,
    sessions: 3,
  })
  assert.equal(lines[0]?.indexOf('\n'), lines[0]!.length - 1)
})

test('at a terminal a line is readable, and text from outside cannot write a line or move the cursor', () => {
  const { log, lines } = record('info', true)
  log.warn('hop failed', { error: own('a\nb\u001b[2Jc'), n: 1 })
  assert.match(lines[0] ?? '', /^\d\d:\d\d:\d\d\.\d{3} warn {2}relay: hop failed error=a\uFFFDb\uFFFD\[2Jc n=1\n$/)
})

test('levels below the one configured are not written', () => {
  const { log, lines } = record('warn', false)
  log.debug('a')
  log.info('b')
  log.warn('c')
  log.error('d')
  assert.equal(lines.length, 2)
})

test('text that was not marked as our own is no field: the compiler refuses it', () => {
  const { log } = record('error', false)
  // @ts-expect-error: plain text might be a user's address
  log.info('dialled', { target: 'example.org' })
})
