/** The entry of the page: `connect`, what it returns, the class of its errors, and `<soft-age>`. */

import { connect } from "./connect.js";
import { Client } from "./client.js";
import { SoftstateError } from "../machine/errors.js";
import { Updates } from "./updates.js";
import { defineAge } from "./age_element.js";

defineAge();

export { Client, SoftstateError, Updates, connect };
