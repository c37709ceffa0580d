// A copy of this machine that is thrown away, with systemd as its process 1: a file system laid over this one, in namespaces of
// its own, with nothing on its network but loopback and a bridge that leads nowhere.
//
//   await using machine = await SystemdMachine.boot()
//   await machine.run('systemctl', 'start', 'hoplite')
//
// It has groups of its own below this machine's in every hierarchy of cgroups, so what its systemd does with groups stays in them.

import { type ChildProcess, execFile, spawn } from 'node:child_process'
import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'
import { missingForNamespaces } from '../netns.ts'
import { waitFor } from '../testnet.ts'

const execute = promisify(execFile)
const SYSTEMD = '/lib/systemd/systemd'
const CGROUPS = '/sys/fs/cgroup'
const RUN_MS = 90_000
const BOOT_MS = 60_000

/** The first words put this process into its groups; the rest is for namespaces of their own, where `$0` is the folder. */
const ENTER = `
set -e
for group in "$@"; do echo 0 > "$group/cgroup.procs" || true; done
exec setpriv --pdeathsig KILL unshare --cgroup --pid --mount --net --uts --ipc --fork --kill-child sh -ec "$SCRIPT" "$0"
`
const BOOT = `
mount --make-rprivate /
mount -t tmpfs none "$0" && cd "$0" && mkdir upper work machine
mount -t overlay none -o lowerdir=/,upperdir=upper,workdir=work machine
cd machine
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t tmpfs none dev -o mode=755
for device in null zero full random urandom tty; do : > dev/$device; mount --bind /dev/$device dev/$device; done
mkdir -p dev/pts dev/shm dev/net
mount -t devpts devpts dev/pts -o newinstance,ptmxmode=0666
ln -s pts/ptmx dev/ptmx
: > dev/net/tun && mount --bind /dev/net/tun dev/net/tun
ln -s /proc/self/fd dev/fd
mount -t tmpfs none run -o mode=755
mount -t tmpfs none tmp -o mode=1777
if [ -e ${CGROUPS}/cgroup.controllers ]; then
  mount -t cgroup2 cgroup2 sys/fs/cgroup
else
  mount -t tmpfs none sys/fs/cgroup -o mode=755
  mkdir sys/fs/cgroup/systemd
  mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
fi
ip link set lo up
ip link add out type bridge
ip link set out up
ip address add 192.0.2.2/24 dev out
ip route add default via 192.0.2.1
rm -f etc/machine-id etc/resolv.conf
echo 0123456789abcdef0123456789abcdef > etc/machine-id
echo nameserver 192.0.2.53 > etc/resolv.conf
mkdir -p run/before && pivot_root . run/before && umount -l /run/before && rmdir /run/before
exec env -i container=lab PATH=/usr/sbin:/usr/bin:/sbin:/bin ${SYSTEMD} --system --unit=basic.target --log-target=journal --show-status=0
`

export class SystemdMachine implements AsyncDisposable {
  readonly #outer: ChildProcess
  readonly #groups: readonly string[]
  readonly #folder: string
  /** Its process 1, as this machine numbers it. */
  readonly pid: number

  private constructor(outer: ChildProcess, groups: readonly string[], folder: string, pid: number) {
    this.#outer = outer
    this.#groups = groups
    this.#folder = folder
    this.pid = pid
  }

  /** What is missing to boot one here, or `undefined` when nothing is. */
  static missing(): string | undefined {
    const missing = missingForNamespaces('unshare', 'nsenter', 'setpriv', 'systemctl', 'dpkg')
    if (missing !== undefined) return missing
    if (!existsSync(SYSTEMD)) return 'systemd'
    if (!existsSync('/dev/net/tun')) return '/dev/net/tun'
    return hierarchies().some(isWritable) ? undefined : 'a hierarchy of cgroups that may be written'
  }

  /** Boots one. Throws, with nothing left behind, when it is not up within a minute. */
  static async boot(): Promise<SystemdMachine> {
    const folder = mkdtempSync(path.join(tmpdir(), 'hoplite-systemd-'))
    const groups = hierarchies().flatMap(makeGroup)
    const outer = spawn('sh', ['-c', ENTER, folder, ...groups], {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { ...process.env, SCRIPT: BOOT },
    })
    let said = ''
    outer.stderr?.on('data', chunk => {
      said += String(chunk)
    })
    try {
      const pid = await waitFor(
        async () => {
          if (outer.exitCode !== null) throw new Error(`boot: ${said}`)
          return childrenOf(outer.pid ?? 0)[0]
        },
        'the first process',
        BOOT_MS,
      )
      const machine = new SystemdMachine(outer, groups, folder, pid)
      await waitFor(
        async () => {
          if (outer.exitCode !== null) throw new Error(`boot: ${said}`)
          const state = await machine.run('systemctl', 'is-system-running').catch(({ stdout }) => String(stdout))
          return /^(running|degraded)$/m.test(state) || undefined
        },
        'systemd',
        BOOT_MS,
      )
      return machine
    } catch (error) {
      await end(outer, groups, folder)
      throw error
    }
  }

  /** Runs a program in it to its end and gives what it wrote; throws when it fails. */
  async run(program: string, ...words: string[]): Promise<string> {
    const { stdout } = await execute('nsenter', this.#inside(program, words), {
      timeout: RUN_MS,
      maxBuffer: 64 * 1024 * 1024,
      env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', HOME: '/root' },
    })
    return stdout
  }

  /** A file of its, as this machine names it. */
  file(name: string): string {
    return path.join(`/proc/${this.pid}/root`, name)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await end(this.#outer, this.#groups, this.#folder)
  }

  #inside(program: string, words: readonly string[]): string[] {
    const spaces = ['--mount', '--uts', '--ipc', '--net', '--pid', '--cgroup', '--root', '--wd']
    return ['--target', String(this.pid), ...spaces, '--', program, ...words]
  }
}

/** Where hierarchies of cgroups are mounted. */
function hierarchies(): string[] {
  return readFileSync('/proc/mounts', 'utf8')
    .split('\n')
    .map(line => line.split(' '))
    .filter(([, at = '', kind = '']) => at.startsWith(CGROUPS) && /^cgroup2?$/.test(kind))
    .map(([, at = '']) => at)
}

function isWritable(directory: string): boolean {
  try {
    accessSync(directory, constants.W_OK)
    return !readFileSync('/proc/mounts', 'utf8')
      .split('\n')
      .some(line => / ro[, ]/.test(line) && line.split(' ')[1] === directory)
  } catch {
    return false
  }
}

function makeGroup(hierarchy: string): string[] {
  const group = path.join(hierarchy, `hoplite-lab-${process.pid}`)
  try {
    mkdirSync(group, { recursive: true })
    return [group]
  } catch {
    return []
  }
}

function childrenOf(pid: number): number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').trim().split(' ').filter(Boolean).map(Number)
  } catch {
    return []
  }
}

/** Its process 1 takes everything with it. */
async function end(outer: ChildProcess, groups: readonly string[], folder: string): Promise<void> {
  const gone = new Promise<void>(resolve => {
    if (outer.exitCode !== null || outer.signalCode !== null) resolve()
    else outer.once('exit', () => resolve())
  })
  for (const pid of childrenOf(outer.pid ?? 0)) process.kill(pid, 'SIGKILL')
  // It passes no signal on.
  if (childrenOf(outer.pid ?? 0).length === 0) outer.kill('SIGKILL')
  await gone
  for (const group of groups)
    await waitFor(async () => removeGroup(group) || undefined, 'the end of a group').catch(() => undefined)
  rmdirSync(folder)
}

/** Groups within groups go first; one with a process that is ending stays a moment longer. */
function removeGroup(group: string): boolean {
  try {
    for (const entry of readdirSync(group, { withFileTypes: true }))
      if (entry.isDirectory()) removeGroup(path.join(group, entry.name))
    rmdirSync(group)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT'
  }
}
