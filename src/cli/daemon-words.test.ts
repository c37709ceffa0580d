import assert from 'node:assert/strict'
import test from 'node:test'
import { daemonWords } from './daemon-words.ts'

test('everything that a client was told is told on to the process that does it', () => {
  const flags = {
    ...{ hops: 2, proxy: '127.0.0.1:0', spendLimit: 5, country: ['CH', 'IS'], avoidCountry: ['XX'] },
    ...{ off: true, tun: true, exclude: ['192.0.2.0/24'], killSwitch: false },
  }
  const words = daemonWords(flags).join(' ')
  const plain = '--hops 2 --proxy 127.0.0.1:0 --spend-limit 5 --country CH IS --avoid-country XX --off --tun'
  assert.ok(words.startsWith(`daemon ${plain} `), words)
  assert.match(words, /--exclude 192\.0\.2\.0\/24/)
  assert.match(words, /--no-kill-switch/)
  assert.deepEqual(daemonWords({}), ['daemon'])
})
