// Leads questions for names of devices to who answers them, on machines that have systemd-resolved: for one link and one domain
// (resolvectl(1)). It forgets that with the link.

import { hasProgram } from '../programs.ts'
import { capture } from './steps.ts'

/** Sends questions below `domain` to `server` by the link; false where there is no resolver that could be told. */
export async function leadNames(link: string, server: string, domain: string): Promise<boolean> {
  if (!hasProgram('resolvectl')) return false
  try {
    await capture({ run: ['resolvectl', 'dns', link, server] })
    await capture({ run: ['resolvectl', 'domain', link, `~${domain}`] })
    await capture({ run: ['resolvectl', 'default-route', link, 'no'] })
    return true
  } catch {
    // The program is there, and the service is not.
    return false
  }
}
