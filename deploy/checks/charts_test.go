// Package checks renders the Helm chart with several sets of values and reads every object as strictly as the types of
// Kubernetes allow: an unknown field, a wrong kind of value or a reference into nowhere is a failure. It also holds
// the plain manifests against the chart, from which they are made: NARU_UPDATE_DOCS=1 go test writes them anew.
package checks

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// Where the chart and the plain manifests are.
const (
	chartFolder = "../helm/naru"
	manifests   = "../kubernetes"
)

// serviceMonitor is what we use of the type of the Prometheus operator, which is no part of Kubernetes.
type serviceMonitor struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Selector  metav1.LabelSelector `json:"selector"`
		Endpoints []struct {
			Port     string `json:"port"`
			Path     string `json:"path"`
			Interval string `json:"interval"`
		} `json:"endpoints"`
	} `json:"spec"`
}

// kinds makes an empty object of each kind that may appear.
var kinds = map[string]func() any{
	"apps/v1 Deployment":                      func() any { return &appsv1.Deployment{} },
	"apps/v1 StatefulSet":                     func() any { return &appsv1.StatefulSet{} },
	"autoscaling/v2 HorizontalPodAutoscaler":  func() any { return &autoscalingv2.HorizontalPodAutoscaler{} },
	"monitoring.coreos.com/v1 ServiceMonitor": func() any { return &serviceMonitor{} },
	"networking.k8s.io/v1 NetworkPolicy":      func() any { return &networkingv1.NetworkPolicy{} },
	"policy/v1 PodDisruptionBudget":           func() any { return &policyv1.PodDisruptionBudget{} },
	"v1 ConfigMap":                            func() any { return &corev1.ConfigMap{} },
	"v1 Secret":                               func() any { return &corev1.Secret{} },
	"v1 Service":                              func() any { return &corev1.Service{} },
	"v1 ServiceAccount":                       func() any { return &corev1.ServiceAccount{} },
}

// The sets of values, with what they must lead to.
var (
	single  = values{}
	cluster = values{
		"mode":    "cluster",
		"cluster": values{"storeUrl": "postgres://naru@db/naru", "busUrl": "redis://bus"},
	}
	everything = values{
		"mode":    "cluster",
		"cluster": values{"storeUrl": "postgres://naru@db/naru", "busUrl": "redis://bus"},
		"image":   values{"digest": "sha256:" + strings.Repeat("0", 64), "pullSecrets": []any{"registry"}},
		"secrets": values{
			"environment": values{"values": values{"NARU_HTTP_API_KEYS": `["a key"]`}},
			"files":       values{"values": values{"bridge.secret": "a secret"}},
		},
		"service":        values{"type": "LoadBalancer", "externalTrafficPolicy": "Local", "annotations": values{"a/b": "c"}},
		"autoscaling":    values{"enabled": true, "phonesPerPod": 500},
		"serviceMonitor": values{"enabled": true, "labels": values{"release": "prometheus"}},
		"networkPolicy": values{
			"enabled": true,
			"from":    values{"http": []any{values{"podSelector": values{}}}},
		},
		"serviceAccount":    values{"annotations": values{"a/b": "c"}},
		"podAnnotations":    values{"a/b": "c"},
		"podLabels":         values{"team": "chat"},
		"nodeSelector":      values{"disk": "ssd"},
		"tolerations":       []any{values{"key": "chat", "operator": "Exists"}},
		"priorityClassName": "high",
	}
	existing = values{
		"secrets": values{
			"environment": values{"existing": "of-others"},
			"files":       values{"existing": "files-of-others"},
		},
		"persistence":    values{"storageClass": "local", "accessMode": "ReadWriteOncePod"},
		"serviceAccount": values{"create": false},
	}
	ephemeral = values{"persistence": values{"enabled": false}, "podDisruptionBudget": values{"enabled": false}}
	sets      = map[string]values{
		"single": single, "cluster": cluster, "everything": everything, "existing": existing, "ephemeral": ephemeral,
	}
)

type values = map[string]any

func loadChart(t *testing.T) *chart.Chart {
	t.Helper()
	loaded, err := loader.Load(chartFolder)
	if err != nil {
		t.Fatal(err)
	}
	return loaded
}

// render gives the text of each template that says anything, by its name.
func render(t *testing.T, given values) (map[string]string, error) {
	t.Helper()
	loaded := loadChart(t)
	release := chartutil.ReleaseOptions{Name: "naru", Namespace: "chat", Revision: 1, IsInstall: true}
	all, err := chartutil.ToRenderValues(loaded, given, release, chartutil.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	texts, err := (engine.Engine{Strict: true}).Render(loaded, all)
	for name, text := range texts {
		if strings.TrimSpace(text) == "" || !strings.HasSuffix(name, ".yaml") {
			delete(texts, name)
		}
	}
	return texts, err
}

// documents takes a text apart. Comments alone are none.
func documents(text string) []string {
	var found []string
	for _, part := range strings.Split("\n"+text, "\n---\n") {
		if strings.Contains(part, "\nkind:") {
			found = append(found, strings.Trim(part, "\n")+"\n")
		}
	}
	return found
}

// read makes a typed object of a document, or says what is wrong with it.
func read(document string) (any, error) {
	var head metav1.TypeMeta
	if err := yaml.Unmarshal([]byte(document), &head); err != nil {
		return nil, err
	}
	empty, known := kinds[head.APIVersion+" "+head.Kind]
	if !known {
		return nil, fmt.Errorf("unknown kind: %s %s", head.APIVersion, head.Kind)
	}
	// Not yaml.UnmarshalStrict, which takes names in the wrong case: the API server drops them.
	text, err := yaml.YAMLToJSONStrict([]byte(document))
	if err != nil {
		return nil, err
	}
	object := empty()
	mistakes, err := json.UnmarshalStrict(text, object)
	return object, errors.Join(append(mistakes, err)...)
}

func readAll(t *testing.T, texts map[string]string) []any {
	t.Helper()
	var objects []any
	for name, text := range texts {
		for _, document := range documents(text) {
			object, err := read(document)
			if err != nil {
				t.Errorf("%s: %v\n%s", name, err, document)
				continue
			}
			objects = append(objects, object)
		}
	}
	return objects
}

func of[T any](objects []any) []T {
	var found []T
	for _, object := range objects {
		if typed, is := object.(T); is {
			found = append(found, typed)
		}
	}
	return found
}

func objectsOf(t *testing.T, set values) []any {
	t.Helper()
	texts, err := render(t, set)
	if err != nil {
		t.Fatal(err)
	}
	return readAll(t, texts)
}

// pod is the template of the one workload.
func pod(t *testing.T, objects []any) (corev1.PodTemplateSpec, *metav1.LabelSelector) {
	t.Helper()
	deployments, sets := of[*appsv1.Deployment](objects), of[*appsv1.StatefulSet](objects)
	if len(deployments)+len(sets) != 1 {
		t.Fatalf("%d deployments and %d stateful sets", len(deployments), len(sets))
	}
	if len(deployments) == 1 {
		return deployments[0].Spec.Template, deployments[0].Spec.Selector
	}
	return sets[0].Spec.Template, sets[0].Spec.Selector
}

func TestEveryObjectOfEverySetOfValuesIsUnderstood(t *testing.T) {
	for name, set := range sets {
		t.Run(name, func(t *testing.T) {
			for _, object := range objectsOf(t, set) {
				meta := object.(metav1.Object)
				if problems := validation.IsDNS1123Subdomain(meta.GetName()); len(problems) > 0 {
					t.Errorf("%s: %v", meta.GetName(), problems)
				}
				for key, value := range meta.GetLabels() {
					problems := append(validation.IsQualifiedName(key), validation.IsValidLabelValue(value)...)
					if len(problems) > 0 {
						t.Errorf("%s: label %s=%s: %v", meta.GetName(), key, value, problems)
					}
				}
			}
		})
	}
}

func TestObjectsFindEachOther(t *testing.T) {
	for name, set := range sets {
		t.Run(name, func(t *testing.T) {
			objects := objectsOf(t, set)
			template, selector := pod(t, objects)
			finds := func(who string, wanted map[string]string) {
				for key, value := range wanted {
					if template.Labels[key] != value {
						t.Errorf("%s looks for %s=%s, which the pods do not have", who, key, value)
					}
				}
				if len(wanted) == 0 {
					t.Errorf("%s looks for everything", who)
				}
			}
			finds("the workload", selector.MatchLabels)
			ports := map[string]bool{}
			for _, port := range template.Spec.Containers[0].Ports {
				ports[port.Name] = true
			}
			for _, service := range of[*corev1.Service](objects) {
				finds(service.Name, service.Spec.Selector)
				for _, port := range service.Spec.Ports {
					if !ports[port.TargetPort.StrVal] {
						t.Errorf("%s leads to a port %q", service.Name, port.TargetPort.StrVal)
					}
				}
			}
			for _, budget := range of[*policyv1.PodDisruptionBudget](objects) {
				finds(budget.Name, budget.Spec.Selector.MatchLabels)
			}
			for _, policy := range of[*networkingv1.NetworkPolicy](objects) {
				finds(policy.Name, policy.Spec.PodSelector.MatchLabels)
			}
			for _, scaler := range of[*autoscalingv2.HorizontalPodAutoscaler](objects) {
				target := scaler.Spec.ScaleTargetRef
				deployment := of[*appsv1.Deployment](objects)[0]
				if target.Kind != "Deployment" || target.Name != deployment.Name || deployment.Spec.Replicas != nil {
					t.Errorf("the autoscaler and somebody else decide how many %s are", target.Name)
				}
			}
			for _, monitor := range of[*serviceMonitor](objects) {
				var watched int
				for _, service := range of[*corev1.Service](objects) {
					if is, _ := metav1.LabelSelectorAsSelector(&monitor.Spec.Selector); is.Matches(labels.Set(service.Labels)) {
						watched++
					}
				}
				if watched != 1 {
					t.Errorf("%d services are watched", watched)
				}
			}
			checkReferences(t, objects, template.Spec)
		})
	}
}

// Everything the pod mentions by name is rendered as well, or belongs to others, which then say so in their name.
func checkReferences(t *testing.T, objects []any, spec corev1.PodSpec) {
	t.Helper()
	there := func(kind, name string) {
		var names []string
		for _, each := range of[*corev1.ConfigMap](objects) {
			names = append(names, "ConfigMap "+each.Name)
		}
		for _, each := range of[*corev1.Secret](objects) {
			names = append(names, "Secret "+each.Name)
		}
		for _, each := range of[*corev1.ServiceAccount](objects) {
			names = append(names, "ServiceAccount "+each.Name)
		}
		isOthers := strings.Contains(name, "of-others") || name == "default"
		if !isOthers && !slices.Contains(names, kind+" "+name) {
			t.Errorf("there is no %s %s", kind, name)
		}
	}
	there("ServiceAccount", spec.ServiceAccountName)
	volumes := map[string]bool{}
	for _, volume := range spec.Volumes {
		volumes[volume.Name] = true
		if volume.ConfigMap != nil {
			there("ConfigMap", volume.ConfigMap.Name)
		}
		if volume.Secret != nil {
			there("Secret", volume.Secret.SecretName)
		}
	}
	for _, set := range of[*appsv1.StatefulSet](objects) {
		for _, claim := range set.Spec.VolumeClaimTemplates {
			volumes[claim.Name] = true
		}
	}
	for _, source := range spec.Containers[0].EnvFrom {
		there("Secret", source.SecretRef.Name)
	}
	for _, mount := range spec.Containers[0].VolumeMounts {
		if !volumes[mount.Name] {
			t.Errorf("there is no volume %s", mount.Name)
		}
	}
}

func TestPodsHaveNoRightsAndTimeToDrain(t *testing.T) {
	for name, set := range sets {
		t.Run(name, func(t *testing.T) {
			template, _ := pod(t, objectsOf(t, set))
			spec := template.Spec
			container := spec.Containers[0]
			isLocked := *spec.SecurityContext.RunAsNonRoot && *container.SecurityContext.ReadOnlyRootFilesystem &&
				!*container.SecurityContext.AllowPrivilegeEscalation && !*spec.AutomountServiceAccountToken &&
				slices.Equal(container.SecurityContext.Capabilities.Drop, []corev1.Capability{"ALL"})
			if !isLocked {
				t.Error("the pod has rights that it does not need")
			}
			// node.drain_timeout is 20 s.
			patience := *spec.TerminationGracePeriodSeconds
			if container.Lifecycle != nil {
				patience -= container.Lifecycle.PreStop.Sleep.Seconds
			}
			if patience < 25 {
				t.Errorf("%d s are left for a drain", patience)
			}
			probes := map[string]*corev1.Probe{
				"/health/startup": container.StartupProbe,
				"/health/live":    container.LivenessProbe,
				"/health/ready":   container.ReadinessProbe,
			}
			for path, probe := range probes {
				if probe == nil || probe.HTTPGet.Path != path || probe.HTTPGet.Port.StrVal != "http" {
					t.Errorf("%s is not asked", path)
				}
			}
		})
	}
}

func TestASingleNodeIsNeverTwoAndAClusterNeverLessThanAll(t *testing.T) {
	objects := objectsOf(t, single)
	set := of[*appsv1.StatefulSet](objects)[0]
	if *set.Spec.Replicas != 1 || len(set.Spec.VolumeClaimTemplates) != 1 {
		t.Error("a single node is one pod with one volume")
	}
	if len(of[*autoscalingv2.HorizontalPodAutoscaler](objects)) != 0 {
		t.Error("a single node cannot be scaled")
	}
	deployment := of[*appsv1.Deployment](objectsOf(t, cluster))[0]
	update := deployment.Spec.Strategy.RollingUpdate
	if update.MaxSurge.IntValue() != 1 || update.MaxUnavailable.IntValue() != 0 || *deployment.Spec.Replicas != 3 {
		t.Errorf("an update of the cluster: %v", update)
	}
	scaler := of[*autoscalingv2.HorizontalPodAutoscaler](objectsOf(t, everything))[0]
	var metrics []string
	for _, metric := range scaler.Spec.Metrics {
		if metric.Pods != nil {
			metrics = append(metrics, metric.Pods.Metric.Name)
		} else {
			metrics = append(metrics, string(metric.Resource.Name))
		}
	}
	if !slices.Equal(metrics, []string{"naru_hub_clients", "naru_bridge_connections", "cpu"}) {
		t.Errorf("scales by %v", metrics)
	}
}

func TestWrongValuesAreRefused(t *testing.T) {
	wrong := map[string]values{
		"a name that nobody reads":         {"replicaCount": 2},
		"a name below one":                 {"service": values{"port": 80}},
		"a cluster without a store":        {"mode": "cluster", "cluster": values{"busUrl": "redis://bus"}},
		"a mode that is none":              {"mode": "many"},
		"a single node that grows":         {"autoscaling": values{"enabled": true}},
		"too little patience":              {"terminationGracePeriodSeconds": 10},
		"a port out of range":              {"service": values{"ports": values{"http": 70000}}},
		"a volume for many":                {"persistence": values{"accessMode": "ReadWriteMany"}},
		"a secret that no setting is":      {"secrets": values{"environment": values{"values": values{"PASSWORD": "x"}}}},
		"a digest that is none":            {"image": values{"digest": "latest"}},
		"text where a number has to stand": {"preStopSeconds": "3"},
	}
	for name, given := range wrong {
		if _, err := render(t, given); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func TestMistakesInObjectsAreSeen(t *testing.T) {
	texts, err := render(t, single)
	if err != nil {
		t.Fatal(err)
	}
	right := texts["naru/templates/statefulset.yaml"]
	for _, change := range [][2]string{
		{"replicas: 1", "replica: 1"},
		{"replicas: 1", "replicas: one"},
		{"readOnlyRootFilesystem: true", "readOnlyRootFileSystem: true"},
		{"apiVersion: apps/v1", "apiVersion: apps/v2"},
		{"kind: StatefulSet", "kind: StatefullSet"},
	} {
		wrong := strings.Replace(right, change[0], change[1], 1)
		if _, err := read(documents(wrong)[0]); wrong == right || err == nil {
			t.Errorf("%v is not seen: the silence of the checks means nothing", change)
		}
	}
}

func TestThePlainManifestsAreThoseOfTheChart(t *testing.T) {
	files := map[string]values{"single.yaml": single, "cluster.yaml": cluster}
	for file, set := range files {
		texts, err := render(t, set)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for name := range texts {
			names = append(names, name)
		}
		sort.Strings(names)
		wanted := "# Made from deploy/helm/naru, for those who do not use Helm: docs/operations/kubernetes.md.\n"
		for _, name := range names {
			for _, document := range documents(texts[name]) {
				wanted += "---\n" + withoutHelm(document)
			}
		}
		path := filepath.Join(manifests, file)
		if os.Getenv("NARU_UPDATE_DOCS") != "" {
			if err := os.WriteFile(path, []byte(wanted), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		found, err := os.ReadFile(path)
		if err != nil || string(found) != wanted {
			t.Errorf("%s is not what the chart says; NARU_UPDATE_DOCS=1 go test writes it anew (%v)", path, err)
		}
		objects := readAll(t, map[string]string{file: string(found)})
		pod(t, objects)
	}
}

// withoutHelm leaves out what says that Helm looks after an object.
func withoutHelm(document string) string {
	var lines []string
	for _, line := range strings.Split(document, "\n") {
		isHelms := strings.Contains(line, "helm.sh/chart:") || strings.Contains(line, "app.kubernetes.io/managed-by:")
		if !isHelms {
			lines = append(lines, strings.TrimRight(line, " "))
		}
	}
	return strings.Join(lines, "\n")
}
