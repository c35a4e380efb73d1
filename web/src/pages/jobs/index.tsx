import type { Route } from "../../state/router";
import { JobDetail } from "./detail";
import { Found } from "./found";
import { isSearch } from "./found-state";
import { JobList } from "./list";

export default function Jobs({ route }: { route: Route }) {
  if (route.job !== null) return <JobDetail key={route.job} id={route.job} />;
  return isSearch(route.query) ? <Found /> : <JobList />;
}
