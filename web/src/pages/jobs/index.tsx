import type { Route } from "../../state/router";
import { JobDetail } from "./detail";
import { JobList } from "./list";

export default function Jobs({ route }: { route: Route }) {
  return route.job === null ? <JobList /> : <JobDetail key={route.job} id={route.job} />;
}
