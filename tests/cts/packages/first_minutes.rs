//! The first minutes with cts on each release of Debian: a package is installed, and what its output
//! names is done as it says.

use crate::packages::install::machine_of;
use crate::support::container::{ContainerPlan, Debian};

#[test]
#[ignore = "sweep"]
fn apt_installs_the_package_on_each_debian_and_cts_runs() {
    for debian in Debian::ALL {
        let Some(machine) = machine_of(ContainerPlan::bare().on(debian)) else { continue };
        machine
            .ok("cp /mnt/cts_*.deb /tmp; cd /tmp; sudo apt-get install --quiet --yes ./cts_*.deb");
        machine.ok("cts --check --url http://127.0.0.1:3000");
    }
}
