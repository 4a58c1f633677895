import { expect, test } from 'vitest';
import { humanised } from '../../src/app/errors';

test.each([
  ['give 5368709120 bytes or more', 'give 5 GiB or more'],
  ['of 1048576 bytes, of 2 disks', 'of 1 MiB, of 2 disks'],
  ['port 58700 is taken', 'port 58700 is taken'],
])('%s reads %s', (text, human) => expect(humanised(text, 'en')).toBe(human));
