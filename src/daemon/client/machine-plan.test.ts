import assert from 'node:assert/strict'
import test from 'node:test'
import { HopliteError } from '#api/errors.ts'
import { EVERYTHING, LAN_RANGES } from '#platform/linux/network/client-options.ts'
import { type MachineFlags, machineWords, planMachine } from './machine-plan.ts'

test('without flags everything belongs to the route, and nothing goes around it', () => {
  const plan = planMachine({ killSwitch: true })
  assert.deepEqual([plan.routes, plan.lan, plan.killSwitch], [EVERYTHING, [], true])
  assert.deepEqual(machineWords(plan), [])
})

test('flags are read, and said again to the process in the background as they were understood', () => {
  const plan = planMachine({
    exclude: ['203.0.113.9/24', '2001:DB8::1'],
    excludeUser: ['1000-1999', '33'],
    excludeCgroup: ['/user.slice/direct/'],
    lan: ['192.168.0.0/16', 'FE80::/10'],
    killSwitch: false,
  })
  const words = machineWords(plan)
  assert.deepEqual(words, [
    ...['--exclude', '203.0.113.0/24', '2001:db8::1/128'],
    ...['--exclude-user', '1000-1999', '33-33'],
    ...['--exclude-cgroup', 'user.slice/direct'],
    ...['--lan', '192.168.0.0/16', 'fe80::/10'],
    '--no-kill-switch',
  ])
  const only = planMachine({ only: ['10.0.0.0/8'], onlyUser: ['root'], onlyCgroup: ['a.slice'], killSwitch: true })
  assert.deepEqual(machineWords(only), ['--only', '10.0.0.0/8', '--only-user', '0-0', '--only-cgroup', 'a.slice'])
  assert.deepEqual(planMachine({ lan: ['all'], killSwitch: true }).lan, LAN_RANGES)
})

test('what makes no sense is refused with what to write instead', () => {
  const cases: [Partial<MachineFlags>, RegExp][] = [
    [{ exclude: ['10.0.0.0/33'] }, /found the network "10\.0\.0\.0\/33"/],
    [{ only: ['here'] }, /found the network "here"/],
    [{ excludeUser: ['9-1'] }, /found the user "9-1"/],
    [{ onlyUser: ['no-such-user-here'] }, /there is no user "no-such-user-here"/],
    [{ onlyCgroup: ['../up'] }, /found the cgroup "\.\.\/up"/],
    [{ lan: ['8.0.0.0/8'] }, /found the LAN range "8\.0\.0\.0\/8"/],
  ]
  for (const [flags, message] of cases) {
    const isRefused = (error: unknown) =>
      error instanceof HopliteError && error.code === 'REQUEST_INVALID' && message.test(error.message)
    assert.throws(() => planMachine({ killSwitch: true, ...flags }), isRefused, JSON.stringify(flags))
  }
})
